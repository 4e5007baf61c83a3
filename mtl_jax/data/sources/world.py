"""The generated shop as a source: what a shop would know of itself, none of the truth.

Its "raw files" are the modules that generate it: if one changes, prepared data are out of date.
"""

import hashlib
from pathlib import Path

import polars as pl

from mtl_jax.data import world as generator
from mtl_jax.data.schema import Columns, Label, RawData

COLUMNS = Columns(
    labels=(
        Label("click", "binary"),
        Label("purchase", "binary"),
        Label("rating", "value", 1.0, 5.0),
        Label("log_dwell", "value"),
    ),
    positive="click",
    item_text=("title", "description"),
    item_category="category",
    item_categorical=("brand",),
    item_dense=("log_price",),
    user_categorical=("age", "gender", "region"),
    context=("device", "place"),
)


def load_world(folder: str | Path, events: int, seed: int) -> RawData:
    """The world of that size and seed as RawData, name "world"; `folder` is not used.

    Raises:
        UserError: a size outside what the generator makes.
    """
    tables = generator.to_tables(generator.generate(events, seed))
    log = pl.DataFrame(tables["events"]).with_columns(
        pl.col(label.name).cast(pl.Float64).fill_nan(None) for label in COLUMNS.labels
    )
    return RawData(
        "world",
        log,
        pl.DataFrame(tables["items"]),
        pl.DataFrame(tables["users"]),
        COLUMNS,
        generating_files(),
    )


def generating_files() -> tuple[tuple[str, str], ...]:
    """(module file, sha256) of the generator, in order of name."""
    folder = Path(generator.__file__).parent
    return tuple(
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob("world*.py"))
        if path.stem != "world_posterior"
    )
