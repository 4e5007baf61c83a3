"""Amazon Scientific as sequence models have it: each user's items in order, and the items' texts.

Two files, plain, .gz or .zip: `Scientific.inter.json` ({user: [item, ...]}, oldest first) and
`Scientific.item.json` ({item: {title, description, brand, categories}}). There is no time: an
interaction's time is its position in its user's sequence, from 1. Earlier and later are known
within a user only; between users a position says nothing.
"""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.read import digests, require
from mtl_jax.data.sources.tables.values import without_html
from mtl_jax.data.sources.unpack import contents_of, decoded

TEXTS = ("title", "description", "brand", "categories")
ROOT = "Industrial & Scientific"  # the first category of all
_LEVELS = re.compile(r",(?! )")  # "Tapes, Adhesives & Sealants" is one level

COLUMNS = Columns(
    labels=(Label("interaction", "binary"),),
    positive="interaction",
    item_text=("title", "description"),
    item_category="category",
    item_tags="categories",
    item_categorical=("brand",),
)


def load_scientific(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "amazon_scientific".

    events: user, item, time (position from 1), interaction (always 1). items: item, title,
    description, brand, categories (list, without the first of all), category (the first of these).

    Raises:
        UserError: a file, key or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [require(base, f"Scientific.{part}.json") for part in ("inter", "item")]
    sequences, catalogue = (_object(path) for path in paths)
    return RawData(
        "amazon_scientific",
        _events(paths[0], sequences),
        _items(paths[1], catalogue),
        pl.DataFrame({"user": list(sequences)}, schema={"user": pl.String}),
        COLUMNS,
        digests(base, paths),
    )


def _object(path: Path) -> dict[str, Any]:
    text, _ = decoded(path, contents_of(path))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: must be one JSON object that is not empty")
    return found


def _events(path: Path, sequences: dict[str, Any]) -> pl.DataFrame:
    for user, items in sequences.items():
        if not isinstance(items, list) or not all(isinstance(item, int | str) for item in items):
            raise UserError(f"{path}: user {user!r}: {str(items)[:40]} is no list of items")
    frame = pl.DataFrame(
        {
            "user": list(sequences),
            "item": [[str(item) for item in items] for items in sequences.values()],
        },
        schema={"user": pl.String, "item": pl.List(pl.String)},
    )
    return frame.explode("item", empty_as_null=False).select(
        "user",
        "item",
        pl.int_range(1, pl.len() + 1).over("user").cast(pl.Int64).alias("time"),
        pl.lit(1.0).alias("interaction"),
    )


def _items(path: Path, catalogue: dict[str, Any]) -> pl.DataFrame:
    for item, told in catalogue.items():
        for name in TEXTS:
            if not isinstance(told, dict) or not isinstance(told.get(name), str):
                raise UserError(f"{path}: item {item!r} has no text {name!r}")
    columns = {n: pl.Series(n, [told[n] for told in catalogue.values()]) for n in TEXTS}
    levels = [
        [p.strip() for p in _LEVELS.split(text) if p.strip()] for text in columns["categories"]
    ]
    below = [[level for level in row if level != ROOT] for row in levels]
    brand = without_html(columns["brand"]).str.strip_chars()
    return pl.DataFrame(
        {
            "item": list(catalogue),
            "title": without_html(columns["title"]),
            "description": without_html(columns["description"]),
            "brand": brand.set(brand == "", None),
            "categories": below,
            "category": [row[0] if row else None for row in below],
        },
        schema_overrides={"categories": pl.List(pl.String), "category": pl.String},
    )
