"""The generated shop as a source: what a shop would know of itself, none of the truth.

Its "raw files" are the modules that generate it: if one changes, prepared data are out of date.
"""

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import polars as pl

from mtl_jax.data import world as generator
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.world_people import DEVICES, PLACES

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


def load_world(folder: str | Path, events: int, seed: int, conflict: float = 0.0) -> RawData:
    """The world of that size, seed and conflict as RawData, name "world"; `folder` is not used.

    Raises:
        UserError: a size or a conflict outside what the generator makes.
    """
    world = generator.generate(events, seed, conflict)
    log = world.events
    named = {
        "user": pl.Series(world.users.id).gather(log.user),
        "item": pl.Series(world.items.id).gather(log.item),
        "time": pl.Series(log.time),
        "device": pl.Series(DEVICES).gather(log.device),
        "place": pl.Series(PLACES).gather(log.place),
    }
    for label in COLUMNS.labels:
        named[label.name] = pl.Series(getattr(log, label.name), dtype=pl.Float64).fill_nan(None)
    none = generator.Events(*(getattr(log, field.name)[:0] for field in fields(log)))
    tables = generator.to_tables(replace(world, events=none))  # catalogue and people
    return RawData(
        "world",
        pl.DataFrame(named),
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
