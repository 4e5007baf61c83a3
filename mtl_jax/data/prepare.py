"""`prepare`: from a source to a prepared folder, unless that has been done."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.folder import written_whole
from mtl_jax.data.prepared import file_digest, open_prepared
from mtl_jax.data.schema import RawData
from mtl_jax.data.sources import SOURCES
from mtl_jax.data.text import tokenizer_files
from mtl_jax.data.write import write_prepared


def prepare(config: DataConfig) -> Path:
    """Prepares the source that the configuration names, unless that has been done.

    Returns:
        config.prepared, which `mtl_jax.data.prepared.open_prepared` opens.

    Raises:
        UserError: whatever is wrong with the configuration, the raw files or the target.
    """
    if config.source not in SOURCES:
        raise UserError(f"data.source={config.source!r} is not one of {sorted(SOURCES)}")
    target = Path(config.prepared)
    if up_to_date(config, target):
        return target
    own: dict[str, dict[str, Any]] = {
        "world": asdict(config.world),
        "kuairand": {"valid_day": config.valid_day},
        "tables": {"schema": config.schema},
    }
    options = own.get(config.source, {})
    return _prepare(lambda: SOURCES[config.source](config.folder, **options), config)


def prepare_raw(raw: RawData, config: DataConfig) -> Path:
    """As `prepare`, for tables that are at hand."""
    return _prepare(lambda: raw, config)


def _prepare(load: Callable[[], RawData], config: DataConfig) -> Path:
    target = Path(config.prepared)
    record = {
        "config": _config_record(config),
        "tokenizer": _tokenizer_record(config),
        "raw": {"listing": _listing(config)},
    }
    with written_whole(target) as writer:
        write_prepared(writer, load, config, record)
    return target


def up_to_date(config: DataConfig, target: Path) -> bool:
    """Whether `target` was prepared with this configuration from these raw files."""
    if not (target / "manifest.json").exists():
        return False
    try:
        manifest = open_prepared(target).manifest
    except UserError:
        return False  # damaged or of another format: it is written anew
    root = Path(__file__).parent if config.source == "world" else Path(config.folder)
    known = manifest["raw"]["files"]
    return bool(
        manifest["config"] == _config_record(config)
        and manifest["tokenizer"] == _tokenizer_record(config)
        and manifest["raw"]["listing"] == _listing(config)
        and known
        and all((root / name).is_file() for name, _ in known)
        and all(file_digest(root / name) == digest for name, digest in known)
    )


def _config_record(config: DataConfig) -> dict[str, Any]:
    """The configuration without paths: what they lead to is recorded by its hash."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    for path in ("folder", "prepared", "tokenizer", "schema"):
        del record[path]
    if config.source == "tables":
        schema = Path(config.schema or Path(config.folder) / "schema.toml")
        record["schema"] = file_digest(schema) if schema.is_file() else ""
    return record


def _tokenizer_record(config: DataConfig) -> list[list[str]]:
    return tokenizer_files(config.tokenizer) if config.tokenizer else []


def _listing(config: DataConfig) -> list[list[Any]]:
    """Names and sizes of the raw folder's files: a file that appears later changes the data."""
    if config.source == "world" or not config.folder or not Path(config.folder).is_dir():
        return []
    found = sorted(path for path in Path(config.folder).iterdir() if path.is_file())
    return [[path.name, path.stat().st_size] for path in found]
