"""MovieLens-1M as CoLLM cut it: `train.parquet`, `valid.parquet`, where present `test.parquet`
(the given splits), and `items.parquet` (title, genres, director, actors, year, rated, plot).

Histories are given (`his`: earlier liked items, oldest first, 0 = padding). In the published
files 0.7 % of their entries carry the row's own second; `mtl_jax.data.history` leaves them out
and counts them. `flag` and `not_cold` mark rows of the
published split: neither is an input. User ids are remapped, so profiles cannot be joined.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.read import digests, parquet, require
from mtl_jax.data.sources.titles import decade, period, readable, split_year

PARTS = (("train", 0), ("valid", 1), ("test", 2))
PAD = 0

EVENTS = {
    "uid": pl.Int64(),
    "iid": pl.Int64(),
    "label": pl.Float64(),
    "timestamp": pl.Int64(),
    "his": pl.List(pl.Int64),
}
ITEMS: dict[str, pl.DataType] = {
    "iid": pl.Int64(),
    **dict.fromkeys(
        ("title", "genres", "year", "rated", "director", "actors", "plot"), pl.String()
    ),
}

COLUMNS = Columns(
    labels=(Label("like", "binary"),),
    positive="like",
    item_text=("title", "year", "directors", "actors", "plot"),
    item_category="genre",
    item_tags="genres",
    item_categorical=("director", "star", "rated", "period", "decade"),
    item_dense=("release_year",),
)


def load_collm(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "ml1m_collm".

    events: user, item, time, like, split (0, 1, 2), history; in file order, train before valid
    before test, so a row of valid is its file's row plus the rows of train. items: item, title
    (article first, without year), year, decade, period (the year from 1980 on, five years before),
    release_year, genres (list), genre and director and star (the first of genres, directors,
    actors), directors, actors, rated, plot. users: user, in order of appearance.

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [require(base, f"{part}.parquet") for part, _ in PARTS[:2]]
    if (base / "test.parquet").is_file():
        paths.append(base / "test.parquet")
    frames = [
        parquet(path, EVENTS).with_columns(pl.lit(split).alias("split"))
        for path, (_, split) in zip(paths, PARTS, strict=False)
    ]
    catalogue = require(base, "items.parquet")
    events = pl.concat(frames).with_row_index("row")
    for name in ("uid", "iid", "timestamp"):
        _require_values(paths, events, name)
    return RawData(
        "ml1m_collm",
        events.select(
            pl.col("uid").cast(pl.String).alias("user"),
            pl.col("iid").cast(pl.String).alias("item"),
            pl.col("timestamp").alias("time"),
            pl.col("label").alias("like"),
            pl.col("split").cast(pl.Int64),
            pl.col("his")
            .fill_null([])
            .list.filter(pl.element() != PAD)
            .cast(pl.List(pl.String))
            .alias("history"),
        ),
        _items(parquet(catalogue, ITEMS)),
        events.select(pl.col("uid").unique(maintain_order=True).cast(pl.String).alias("user")),
        COLUMNS,
        digests(base, [*paths, catalogue]),
    )


def _require_values(paths: list[Path], events: pl.DataFrame, name: str) -> None:
    """UserError naming file and row of the first null of a column that must have values."""
    for path, part in zip(paths, events.partition_by("split", maintain_order=True), strict=True):
        if part[name].null_count():
            row = int(part[name].is_null().arg_max() or 0)
            raise UserError(f"{path}, row {row + 1}, column {name}: the value is missing")


def _items(items: pl.DataFrame) -> pl.DataFrame:
    """The catalogue without the padding item; blanks and "N/A" are missing."""
    items = items.filter(pl.col("iid") != PAD).with_columns(
        pl.when(pl.col(pl.String).str.strip_chars().is_in(["", "N/A"]))
        .then(None)
        .otherwise(pl.col(pl.String).str.strip_chars())
        .name.keep()
    )
    parts = [split_year(title or "") for title in items["title"]]
    years = [
        column if decade(column or "") else found
        for column, (_, found) in zip(items["year"], parts, strict=True)
    ]
    year = pl.Series("year", [y or None for y in years], dtype=pl.String)
    genres = pl.col("genres").str.split("|").fill_null([])
    return items.select(
        pl.col("iid").cast(pl.String).alias("item"),
        pl.Series("title", [readable(title) for title, _ in parts], dtype=pl.String),
        year,
        pl.Series("decade", [decade(y or "") for y in year], dtype=pl.String),
        pl.Series("period", [period(y or "") for y in year], dtype=pl.String),
        year.cast(pl.Float64).alias("release_year"),
        genres.alias("genres"),
        genres.list.first().alias("genre"),
        pl.col("director").str.split(",").list.first().str.strip_chars(),
        pl.col("director").alias("directors"),
        pl.col("actors").str.split(",").list.first().str.strip_chars().alias("star"),
        pl.col("actors"),
        pl.col("rated"),
        pl.col("plot"),
    )
