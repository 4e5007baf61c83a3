"""Census-Income (KDD): two questions about a person, income above 50,000 dollars and never married.

`census-income.data` and `census-income.test` of the UCI archive, plain, .gz or .zip: no header, 42
columns separated by a comma and a blank, "?" for missing. There are no users, items or times:
every row is an item of its own, all rows are of one user and of one time.

Rows of the test file are the test part; of the other file every tenth row is the valid part (the
file has no order that is known). No input are the two labels, the instance weight (what the row
stands for in the population) and the marital status, of which never married is one value. Left in,
as is usual, is what tells of a marriage in other words ("spouse of householder" of the family
columns, "joint" of the tax filer status): the second task is easy.
"""

from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.delimited import Dialect
from mtl_jax.data.sources.read import digests, require
from mtl_jax.data.sources.rows import Rows, read_rows

NAMES = (
    "age", "class_of_worker", "industry_code", "occupation_code", "education", "wage_per_hour",
    "enrolled_last_week", "marital_status", "major_industry", "major_occupation", "race",
    "hispanic_origin", "sex", "union_member", "reason_for_unemployment", "employment",
    "capital_gains", "capital_losses", "dividends", "tax_filer", "previous_region",
    "previous_state", "family", "household", "instance_weight", "migration_msa",
    "migration_region", "migration_within_region", "same_house", "previous_sunbelt", "employers",
    "parents_present", "father_born", "mother_born", "born", "citizenship", "own_business",
    "veterans_questionnaire", "veterans_benefits", "weeks_worked", "year", "income",
)  # fmt: skip
DENSE = (
    "age", "wage_per_hour", "capital_gains", "capital_losses", "dividends", "employers",
    "weeks_worked",
)  # fmt: skip
NO_INPUT = ("marital_status", "instance_weight", "income")
INCOMES = {"- 50000.": 0.0, "-50000": 0.0, "50000+.": 1.0, "50000+": 1.0}
NEVER = "Never married"
ANYONE = "anyone"
EVERY = 10  # of so many rows of the first file one is valid

COLUMNS = Columns(
    labels=(Label("income_50k", "binary"), Label("never_married", "binary")),
    positive="income_50k",
    item_text=(),
    item_category="",
    item_categorical=tuple(n for n in NAMES if n not in (*DENSE, *NO_INPUT)),
    item_dense=DENSE,
)


def load_census(folder: str | Path) -> RawData:
    """The raw folder as RawData, name "census".

    events: user ("anyone"), item (the row's number over both files, from 1), time (1), income_50k,
    never_married, split. items: item and the columns of a person.

    Raises:
        UserError: a file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    paths = [require(base, f"census-income.{part}") for part in ("data", "test")]
    rows = read_rows(paths, NAMES, Dialect(separator=",", encoding="utf-8", columns=NAMES))
    stripped = rows.frame.with_columns(pl.all().str.strip_chars())
    known = stripped.with_columns(pl.when(pl.all() != "?").then(pl.all()))
    income = known["income"].replace_strict(INCOMES, default=None, return_dtype=pl.Float64)
    _require(rows, stripped["income"], income.is_not_null(), "- 50000. or 50000+.")
    first = rows.parts[0][1]
    number = pl.int_range(len(income), eager=True)
    split = pl.select(
        pl.when(number >= first).then(2).otherwise((number % EVERY == EVERY - 1).cast(pl.Int32))
    )
    item = (number + 1).cast(pl.String)
    dense = {name: known[name].cast(pl.Float64, strict=False) for name in DENSE}
    for name, column in dense.items():
        _require(rows, stripped[name], column.is_not_null() | known[name].is_null(), "a number")
    return RawData(
        "census",
        pl.DataFrame(
            {
                "user": pl.Series([ANYONE]).new_from_index(0, len(income)),
                "item": item,
                "time": number * 0 + 1,
                "income_50k": income,
                "never_married": (known["marital_status"] == NEVER).cast(pl.Float64),
                "split": split.to_series().cast(pl.Int64),
            }
        ),
        known.drop(NO_INPUT).with_columns(item=item, **dense),
        pl.DataFrame({"user": [ANYONE]}),
        COLUMNS,
        digests(base, paths),
    )


def _require(rows: Rows, column: pl.Series, right: pl.Series, what: str) -> None:
    if not right.all():
        row = int((~right).arg_max() or 0)
        raise UserError(f"{rows.where(row)}, column {column.name}: {column[row]!r} is not {what}")
