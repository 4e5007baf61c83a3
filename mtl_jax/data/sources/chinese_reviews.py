"""Chinese reviews of hotels (ChnSentiCorp) and of meals brought home (waimai): is it praise?

Two files, each plain, .gz or .zip, of which one is enough: `ChnSentiCorp_htl_all.csv` and
`waimai_10k.csv`, with columns label (1 praise, 0 complaint) and review. There are no users, no
items and no times: every text is an item of its own, all rows are of one user and of one time. A
text that comes twice is one item, so that no part of a split knows a text of another; cleaning
counts the second row as a duplicate.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.delimited import Dialect
from mtl_jax.data.sources.read import contents, digests, find
from mtl_jax.data.sources.rows import read_rows

FILES = {"hotel": "ChnSentiCorp_htl_all.csv", "waimai": "waimai_10k.csv"}
ANYONE = "anyone"

COLUMNS = Columns(
    labels=(Label("sentiment", "binary"),),
    positive="sentiment",
    item_text=("review",),
    item_category="domain",
    context=("scenario",),
)


def load_chinese_reviews(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "zh_reviews".

    events: user ("anyone"), item ("hotel-1": file and row of the text's first coming; missing
    without a text), time (1), sentiment, scenario ("hotel", "waimai"). items: item, review,
    domain (as scenario).

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    found = {name: path for name, file in FILES.items() if (path := find(base, file))}
    if not found:
        raise UserError(
            f"{base}: neither {' nor '.join(FILES.values())}; {contents(base)}. "
            "data.folder must name the raw folder"
        )
    rows = pl.concat(_rows(name, path) for name, path in found.items())
    text = pl.col("review")
    rows = rows.with_columns(
        pl.when(text != "").then(pl.col("place").first().over("scenario", "review")).alias("item")
    )
    items = rows.filter(text != "").unique("item", keep="first", maintain_order=True)
    return RawData(
        "zh_reviews",
        rows.select(
            pl.lit(ANYONE).alias("user"),
            "item",
            pl.lit(1, pl.Int64).alias("time"),
            "sentiment",
            "scenario",
        ),
        items.select("item", "review", pl.col("scenario").alias("domain")),
        pl.DataFrame({"user": [ANYONE]}),
        COLUMNS,
        digests(base, list(found.values())),
    )


def _rows(name: str, path: Path) -> pl.DataFrame:
    rows = read_rows([path], ("label", "review"), Dialect(separator=","))
    label = rows.frame["label"].str.strip_chars()
    wrong = ~label.is_in(["0", "1"])
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise UserError(f"{rows.where(row)}, column label: {label[row]!r} is not 0 or 1")
    return pl.DataFrame(
        {
            "sentiment": label.cast(pl.Float64),
            "review": rows.frame["review"].str.strip_chars(),
            "scenario": pl.Series([name]).new_from_index(0, len(label)),
            "place": [f"{name}-{row + 1}" for row in range(len(label))],
        }
    )
