"""MovieLens after 100K: latest-small (and the larger ones of its layout), and 1M.

Of latest-small are read `ratings.csv` and `movies.csv`, of 1M `ratings.dat`, `movies.dat` and
`users.dat` (fields separated by "::", Latin-1), each plain, .gz or .zip. `tags.csv` is left out:
a user's tag has a time of its own, mostly later than the ratings that it would describe.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.delimited import Dialect
from mtl_jax.data.sources.movielens import COLUMNS, LIKED, age_band, film_table
from mtl_jax.data.sources.read import digests, require
from mtl_jax.data.sources.rows import Rows, read_rows

NO_GENRES = "(no genres listed)"
COLUMNS_LATEST = Columns(
    labels=(Label("rating", "value", 0.5, 5.0), Label("like", "binary")),
    positive="like",
    item_text=COLUMNS.item_text,
    item_category=COLUMNS.item_category,
    item_tags=COLUMNS.item_tags,
    item_categorical=COLUMNS.item_categorical,
    item_dense=COLUMNS.item_dense,
)
OCCUPATIONS = (
    "other", "educator", "artist", "clerical", "college student", "customer service", "doctor",
    "executive", "farmer", "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales",
    "scientist", "self-employed", "engineer", "tradesman", "unemployed", "writer",
)  # fmt: skip  # as the README of MovieLens-1M numbers them


def load_movielens_latest(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "ml_latest": half stars from .5 to 5, no profiles.

    events: user, item, time, rating, like (1 if rating >= 4). items: as of `load_movielens`.

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [require(base, name) for name in ("ratings.csv", "movies.csv")]
    csv = Dialect(separator=",")
    ratings = read_rows(paths[:1], ("userId", "movieId", "rating", "timestamp"), csv)
    movies = read_rows(paths[1:], ("movieId", "title", "genres"), csv)
    return RawData(
        "ml_latest",
        _events(ratings, "userId", "movieId", "timestamp"),
        _items(movies, "movieId"),
        ratings.frame.select(pl.col("userId").unique(maintain_order=True).alias("user")),
        COLUMNS_LATEST,
        digests(base, paths),
    )


def load_movielens_1m(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "ml1m": whole stars, profiles (age band, gender, occupation).

    Tables as of `load_movielens`.

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [require(base, f"{name}.dat") for name in ("ratings", "movies", "users")]
    ratings = _dat(paths[0], ("user", "item", "rating", "time"))
    movies = _dat(paths[1], ("item", "title", "genres"))
    users = _dat(paths[2], ("user", "gender", "age", "occupation", "zip"))
    return RawData(
        "ml1m",
        _events(ratings, "user", "item", "time"),
        _items(movies, "item"),
        _users(users),
        COLUMNS,
        digests(base, paths),
    )


def _dat(path: Path, names: tuple[str, ...]) -> Rows:
    return read_rows([path], names, Dialect(separator="::", columns=names))


def _events(ratings: Rows, user: str, item: str, time: str) -> pl.DataFrame:
    rating = _numbers(ratings, "rating")
    return pl.DataFrame(
        {
            "user": ratings.frame[user],
            "item": ratings.frame[item],
            "time": _numbers(ratings, time, whole=True).cast(pl.Int64),
            "rating": rating,
            "like": (rating >= LIKED).cast(pl.Float64),
        }
    )


def _items(movies: Rows, item: str) -> pl.DataFrame:
    genres = [[g for g in row.split("|") if g and g != NO_GENRES] for row in movies.frame["genres"]]
    titles = movies.frame["title"].to_list()
    return film_table(movies.frame[item].to_list(), titles, [""] * len(titles), genres)


def _users(users: Rows) -> pl.DataFrame:
    code = _numbers(users, "occupation", whole=True).cast(pl.Int64)
    unknown = ~code.is_in(range(len(OCCUPATIONS)))
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        raise UserError(
            f"{users.where(row)}, column occupation: {users.frame['occupation'][row]!r} is not "
            f"0 to {len(OCCUPATIONS) - 1}"
        )
    ages = [age_band(int(age)) for age in _numbers(users, "age", whole=True)]
    return pl.DataFrame(
        {
            "user": users.frame["user"],
            "age": ages,
            "gender": users.frame["gender"],
            "occupation": [OCCUPATIONS[c] for c in code],
        }
    )


def _numbers(rows: Rows, name: str, whole: bool = False) -> pl.Series:
    """Column `name` as float64; UserError naming the first that is no (whole) number."""
    text = rows.frame[name]
    value = text.str.strip_chars().cast(pl.Float64, strict=False)
    wrong = ~value.is_finite().fill_null(False)
    if whole:
        wrong |= (value != value.round(0)).fill_null(True)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        what = "whole number" if whole else "number"
        raise UserError(f"{rows.where(row)}, column {name}: {text[row]!r} is not a {what}")
    return value
