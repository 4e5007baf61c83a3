"""Small tables made in code, for tests that need a source."""

import numpy as np
import polars as pl

from mtl_jax.data.schema import Columns, Label, RawData

COLUMNS = Columns(
    labels=(
        Label("click", "binary"),
        Label("buy", "binary"),
        Label("rating", "value", 1.0, 5.0),
    ),
    positive="click",
    item_text=("title", "description"),
    item_category="category",
    item_tags="tags",
    item_categorical=("brand",),
    item_dense=("price",),
    user_categorical=("gender",),
    user_dense=("age",),
    context=("device",),
)


def make_raw(events: int = 120, users: int = 7, items: int = 11, seed: int = 0) -> RawData:
    """Random tables with ties in time, missing labels, and items that nobody has met."""
    rng = np.random.default_rng(seed)
    click = rng.random(events) < 0.5
    buy = np.where(click, rng.random(events) < 0.3, np.nan)
    rating = np.where(rng.random(events) < 0.5, rng.integers(1, 6, events), np.nan)
    pairs = {
        "user": [f"u{i}" for i in rng.integers(0, users, events)],
        "item": [f"i{i}" for i in rng.integers(0, items, events)],
        "time": 1_000_000 + np.sort(rng.integers(0, events // 2, events)) * 3600,
        "click": click.astype(float),
        "buy": buy,
        "rating": rating,
        "device": [["phone", "desk"][i] for i in rng.integers(0, 2, events)],
    }
    frame = pl.DataFrame(pairs).with_columns(pl.col("buy", "rating").fill_nan(None))
    frame = frame.unique(["user", "item", "time"], keep="first", maintain_order=True)
    catalogue = pl.DataFrame(
        {
            "item": [f"i{i}" for i in range(items + 2)],
            "title": [f"Thing {i}" for i in range(items + 2)],
            "description": [f"made of  stuff {i % 3}" for i in range(items + 2)],
            "category": [f"c{i % 3}" for i in range(items + 2)],
            "tags": [[f"t{j}" for j in range(i % 4)] for i in range(items + 2)],
            "brand": [None if i == 2 else f"b{i % 2}" for i in range(items + 2)],
            "price": [None if i == 3 else float(i) for i in range(items + 2)],
        }
    )
    profile = pl.DataFrame(
        {
            "user": [f"u{i}" for i in range(users + 1)],
            "gender": ["FM"[i % 2] for i in range(users + 1)],
            "age": [20.0 + i for i in range(users + 1)],
        }
    )
    return RawData("tiny", frame, catalogue, profile, COLUMNS, (("events.csv", "0" * 64),))
