"""Amazon reviews (five-core JSON lines, as of 2014): stars, helpful votes, text, day; no products.

The text of a review says what its stars are, so no row may see its own review, nor a later one.
There are no product titles: an item's text is what its first reviewers said, its summaries and
reviews up to the day on which it had `FIRST` of them. Those reviews are text and nothing else:
rows are the reviews of later days. A row's own item was therefore described before the row's day,
and so was every item of its history, which holds rows only. One fifth of the reviews is spent on
that; their stars are in no statistic and no history.

What an item's text cannot be is causal for a row that does not know the item: as a candidate or a
negative of a retrieval task an item may be described by reviews later than the row. So the shipped
configuration has no retrieval task.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.delimited import Dialect
from mtl_jax.data.sources.read import contents, digests
from mtl_jax.data.sources.rows import Rows, read_rows
from mtl_jax.data.sources.tables.values import without_html
from mtl_jax.data.sources.unpack import kind_of

FIRST = 2  # reviews that describe an item
LIKED = 4.0
NAMES = ("reviewerID", "asin", "helpful", "reviewText", "overall", "summary", "unixReviewTime")

COLUMNS = Columns(
    labels=(
        Label("rating", "value", 1.0, 5.0),
        Label("like", "binary"),
        Label("helpful", "binary"),
    ),
    positive="like",
    item_text=("summaries", "reviews"),
    item_category="",
)


def load_amazon_reviews(folder: str | Path) -> RawData:
    """The folder's one .json (plain, .gz, .zip) as RawData, name "amazon_reviews".

    events, by day: user, item, time (the day's first second), rating (1 to 5), like (1 if rating
    >= 4), helpful (1 if more than half of the votes say so, missing without votes). items: item,
    summaries, reviews (of the item's first days; see above).

    Raises:
        UserError: a file, key or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [p for p in sorted(base.glob("*.json*")) if p.is_file() and kind_of(p) == "json"]
    if len(paths) != 1:
        raise UserError(
            f"{base}: one file of reviews (.json, also .gz, .zip) is needed; {contents(base)}. "
            "data.folder must name the raw folder"
        )
    rows = read_rows(paths, NAMES, Dialect())
    reviews = _reviews(rows)
    described = reviews["described"]
    later = reviews.filter(reviews["time"] > described)
    if not later.height:
        raise UserError(f"{paths[0]}: no item has reviews of later days than its first {FIRST}")
    return RawData(
        "amazon_reviews",
        later.select("user", "item", "time", "rating", "like", "helpful"),
        _items(reviews),
        later.select(pl.col("user").unique(maintain_order=True)),
        COLUMNS,
        digests(base, paths),
    )


def _reviews(rows: Rows) -> pl.DataFrame:
    """All reviews by day; `described`: the day on which the item's text is complete."""
    frame = rows.frame
    for name in ("overall", "unixReviewTime"):
        wrong = frame[name].cast(pl.Float64, strict=False).is_null()
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise UserError(f"{rows.where(row)}: {name} {frame[name][row]!r} is not a number")
    votes = frame["helpful"]
    pair = votes.list.len() == 2 if isinstance(votes.dtype, pl.List) else votes.is_null() & False
    if not pair.fill_null(False).all():
        row = int((~pair.fill_null(False)).arg_max() or 0)
        raise UserError(f"{rows.where(row)}: helpful must be [helpful votes, all votes]")
    numbers = votes.cast(pl.List(pl.Float64))
    up, total = numbers.list.get(0), numbers.list.get(1)
    rating = frame["overall"].cast(pl.Float64)
    reviews = pl.DataFrame(
        {
            "user": frame["reviewerID"],
            "item": frame["asin"],
            "time": frame["unixReviewTime"].cast(pl.Int64),
            "rating": rating,
            "like": (rating >= LIKED).cast(pl.Float64),
            "helpful": (2 * up > total).cast(pl.Float64).set(total <= 0, None),
            "summary": without_html(frame["summary"].fill_null("")).str.strip_chars(),
            "review": without_html(frame["reviewText"].fill_null("")).str.strip_chars(),
        }
    ).sort("time", maintain_order=True)
    ordered = pl.col("time").sort().slice(0, FIRST).last()
    return reviews.with_columns(ordered.over("item").alias("described"))


def _items(reviews: pl.DataFrame) -> pl.DataFrame:
    first = reviews.filter(pl.col("time") <= pl.col("described"))
    return first.group_by("item", maintain_order=True).agg(
        pl.col("summary").filter(pl.col("summary") != "").str.join(". ").alias("summaries"),
        pl.col("review").filter(pl.col("review") != "").str.join(" ").alias("reviews"),
    )
