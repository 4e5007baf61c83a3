"""Any log as a source: CSV, JSON lines or Parquet, described by one schema file."""

from mtl_jax.data.sources.tables.load import load_tables

__all__ = ["load_tables"]
