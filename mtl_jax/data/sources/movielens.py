"""MovieLens-100K: ratings with title, genres, age, gender, occupation.

Two layouts are read, each file plain or .gz: the original (`u.data`, `u.item`, `u.user`,
`u.genre`; Latin-1) and the atomic (`ml-100k.inter`, `ml-100k.item`, `ml-100k.user`; tabs, header
"name:type"). If both are there, the original is read.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.read import (
    Table,
    contents,
    delimited,
    digests,
    find,
    headed,
    require,
    text_lines,
)
from mtl_jax.data.sources.titles import decade, readable, split_year

LIKED = 4  # a rating from here on is a like
# the bands of MovieLens-1M, by the first age above each
AGES = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (50, "45-49"), (56, "50-55"))
OLDEST = "56 or more"

COLUMNS = Columns(
    labels=(Label("rating", "value", 1.0, 5.0), Label("like", "binary")),
    positive="like",
    item_text=("title", "year"),
    item_category="genre",
    item_tags="genres",
    item_categorical=("decade",),
    item_dense=("release_year",),
    user_categorical=("age", "gender", "occupation"),
)


def load_movielens(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "ml100k".

    events: user, item, time, rating (1 to 5), like (1 if rating >= 4). items: item, title (article
    first, without year), year, decade, release_year, genres (list), genre (the first). users:
    user, age (band), gender, occupation.

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    if find(base, "u.data"):
        ratings, items, users, paths = _original(base)
    elif find(base, "ml-100k.inter"):
        ratings, items, users, paths = _atomic(base)
    else:
        raise UserError(
            f"{base / 'u.data'}: no such file, nor {base / 'ml-100k.inter'}; {contents(base)}. "
            "data.folder must name a folder of MovieLens-100K"
        )
    return RawData("ml100k", ratings, items, users, COLUMNS, digests(base, paths))


Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[Path]]


def _original(base: Path) -> Tables:
    paths = [require(base, name) for name in ("u.data", "u.item", "u.user", "u.genre")]
    ratings = delimited(paths[0], "\t", ("user", "item", "rating", "timestamp"))
    genres = _genre_names(paths[3])
    fixed = ("item", "title", "release_date", "video_release_date", "url")
    items = delimited(paths[1], "|", (*fixed, *genres))
    users = delimited(paths[2], "|", ("user", "age", "gender", "occupation", "zip"))
    flags = [items.integers(name).to_list() for name in genres]
    tags = [
        [name for name, flag in zip(genres, row, strict=True) if flag]
        for row in zip(*flags, strict=True)
    ]
    dates = [date[-4:] for date in items.columns["release_date"]]  # "01-Jan-1995"
    return (
        _events(ratings, "user", "item"),
        film_table(items.columns["item"], items.columns["title"], dates, tags),
        _users(users, "user"),
        paths,
    )


def _genre_names(path: Path) -> list[str]:
    """The genres in the order of u.item's flags; u.genre has lines "Action|1"."""
    lines = [line for line in text_lines(path) if line]
    table = Table(path, {"index": [line.rpartition("|")[2] for line in lines]}, 1)
    order = table.integers("index").to_list()
    if sorted(order) != list(range(len(lines))):
        raise UserError(f"{path}: the indices must be 0 to {len(lines) - 1}, found {order}")
    names = [line.rpartition("|")[0] for line in lines]
    return [names[order.index(i)] for i in range(len(lines))]


def _atomic(base: Path) -> Tables:
    paths = [require(base, f"ml-100k.{part}") for part in ("inter", "item", "user")]
    ratings = headed(paths[0], "\t", ("user_id", "item_id", "rating", "timestamp"))
    items = headed(paths[1], "\t", ("item_id", "movie_title", "release_year", "class"))
    users = headed(paths[2], "\t", ("user_id", "age", "gender", "occupation"))
    tags = [text.split() for text in items.columns["class"]]
    columns = items.columns
    return (
        _events(ratings, "user_id", "item_id"),
        film_table(columns["item_id"], columns["movie_title"], columns["release_year"], tags),
        _users(users, "user_id"),
        paths,
    )


def _events(table: Table, user: str, item: str) -> pl.DataFrame:
    rating = table.floats("rating")
    return pl.DataFrame(
        {
            "user": table.columns[user],
            "item": table.columns[item],
            "time": table.integers("timestamp"),
            "rating": rating,
            "like": (rating >= LIKED).cast(pl.Float64),
        }
    )


def film_table(
    items: list[str], titles: list[str], years: list[str], tags: list[list[str]]
) -> pl.DataFrame:
    """The catalogue of films.

    A year column that holds no year (the set has "V" and blanks) gives way to the title's.
    """
    parts = [split_year(title) for title in titles]
    year = [
        column if decade(column) else found for column, (_, found) in zip(years, parts, strict=True)
    ]
    return pl.DataFrame(
        {
            "item": items,
            "title": [readable(title) for title, _ in parts],
            "year": [y or None for y in year],
            "decade": [decade(y) for y in year],
            "release_year": [float(y) if y else None for y in year],
            "genres": tags,
            "genre": [row[0] if row else None for row in tags],
        },
        schema_overrides={
            "year": pl.String,
            "decade": pl.String,
            "release_year": pl.Float64,
            "genres": pl.List(pl.String),
            "genre": pl.String,
        },
    )


def _users(table: Table, user: str) -> pl.DataFrame:
    ages = table.integers("age", may_be_empty=True).to_list()
    return pl.DataFrame(
        {
            "user": table.columns[user],
            "age": [None if age is None else age_band(age) for age in ages],
            "gender": [text or None for text in table.columns["gender"]],
            "occupation": [text or None for text in table.columns["occupation"]],
        },
        schema_overrides={"age": pl.String, "gender": pl.String, "occupation": pl.String},
    )


def age_band(age: int) -> str:
    """The band of an age in years."""
    return next((band for above, band in AGES if age < above), OLDEST)
