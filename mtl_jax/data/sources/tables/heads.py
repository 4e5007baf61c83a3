"""The beginnings of a folder's files, and what their columns look like."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.delimited import Dialect, found_dialect, records, text_table
from mtl_jax.data.sources.json_lines import json_table
from mtl_jax.data.sources.read import contents
from mtl_jax.data.sources.rows import read_rows
from mtl_jax.data.sources.tables.layout import MISSING_TEXTS
from mtl_jax.data.sources.tables.values import UNITS, flag_of, number_of, texts, time_of
from mtl_jax.data.sources.unpack import contents_of, decoded, kind_of

HEAD = 8_000_000  # bytes of a file that are looked at
NOT_NUMBERS = (*MISSING_TEXTS, "NA", "n/a", "-", "--", "?", "none", "undefined")
_NO_DATA = re.compile(r"(?i)^(readme|licen[cs]e|requirements|schema|config|metrics)\b")
_NUMBER = re.compile(r"^-?\d+([.,]\d+)?$")
_FORMS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M",
    "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p", "%m/%d/%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
    "%d-%b-%Y", "%b %d, %Y", "%m %d, %Y", "%a %b %d %H:%M:%S %z %Y", "%d %B %Y",
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """The first rows of a file. whole: they are all; names: it has a header."""

    path: Path
    frame: pl.DataFrame
    dialect: Dialect
    whole: bool
    names: bool


@dataclass(frozen=True)
class Profile:
    """What a column looks like in the head.

    kind: "time", "flag" (0 and 1, yes and no), "number", "list" (of names), "text", "empty", or
        "other" (bytes, vectors, tables in a cell).
    form: of a time, its time_format; unsure: day and month could change places.
    missing: texts found that stand for a missing value.
    words: mean number of words, each Chinese character one.
    """

    name: str
    kind: str
    rows: int
    absent: int
    distinct: int
    samples: tuple[str, ...]
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    decimal: str = "."
    form: str = ""
    unsure: bool = False
    missing: tuple[str, ...] = ()
    words: float = 0.0
    html: bool = False
    link: bool = False

    @property
    def unique(self) -> bool:
        """Every row has a value of its own."""
        return self.distinct == self.rows


def read_heads(folder: Path) -> list[Head]:
    """Heads of the folder's tables, in order of name.

    Raises:
        UserError: no such folder, no table in it, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"--inspect={folder}: {contents(folder)}")
    paths = [p for p in sorted(folder.iterdir()) if p.is_file() and not _NO_DATA.match(p.name)]
    heads = [read_head(path) for path in paths if kind_of(path)]
    if not heads:
        raise UserError(
            f"--inspect={folder}: no table (CSV, JSON lines, Parquet; .gz, .zip); "
            f"{contents(folder)}"
        )
    return heads


def read_head(path: Path) -> Head:
    """The head of one file."""
    kind = kind_of(path)
    if kind == "parquet":
        return Head(path, read_rows([path]).frame.head(200_000), Dialect(), True, True)
    data = contents_of(path, HEAD)
    whole = len(data) < HEAD
    text, encoding = decoded(path, data, cut=not whole)
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    if kind == "json":
        return Head(path, json_table(path, text, None, not whole)[0], Dialect(), whole, True)
    if not whole:
        text = _whole_records(text)
    dialect = found_dialect(text, Dialect(), encoding)
    first = next(records(text, dialect.separator))
    named = not any(_NUMBER.match(field.strip()) for field in first)
    if not named:
        numbered = tuple(f"column_{i + 1}" for i in range(len(first)))
        dialect = replace(dialect, columns=numbered)
    frame = text_table(path, text, None, dialect)
    if not frame.height:
        raise UserError(f"{path}: the file has a header and no rows")
    return Head(path, frame, dialect, whole, named)


def _whole_records(text: str) -> str:
    """Up to the last line end that stands outside quotes."""
    end = text.rfind("\n") + 1
    while end and text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return text[:end] or text


def profile(column: pl.Series) -> Profile:
    """What the column looks like."""
    if not _plain(column.dtype):
        return Profile(column.name, "other", len(column), 0, 0, ())
    plain = texts(column) if column.dtype in (pl.String, pl.List) else column.cast(pl.String)
    absent = plain.is_null() | plain.is_in(list(MISSING_TEXTS)).fill_null(False)
    known = plain.filter(~absent)
    seen = known.unique(maintain_order=True)
    base = Profile(
        column.name,
        "text",
        len(column),
        int(absent.sum()),
        len(seen),
        tuple(text if len(text) <= 40 else text[:37] + "..." for text in seen.head(3)),
        missing=tuple(m for m in MISSING_TEXTS if m and bool((plain == m).any())),
    )
    if not len(seen):
        return replace(base, kind="empty")
    if isinstance(column.dtype, pl.List):
        return replace(base, kind="list")
    typed = known if column.dtype == pl.String else column.filter(~absent)
    form, unsure = _time_form(typed)
    if form:
        return replace(base, kind="time", form=form, unsure=unsure)
    if flag_of(typed).is_not_null().all():
        return replace(base, kind="flag")
    return _number(base, typed) or _text(base, known)


def _plain(dtype: pl.DataType) -> bool:
    """Text, numbers, times, and lists of names."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    known = inner == pl.String or inner.is_integer()
    if isinstance(dtype, pl.List):
        return known
    moment = inner.is_temporal() and inner not in (pl.Time, pl.Duration)
    return known or inner.is_numeric() or moment or inner in (pl.Boolean, pl.Null)


def _number(base: Profile, known: pl.Series) -> Profile | None:
    """As a number, if nearly all values are one and the rest stand for missing ones."""
    for decimal in (".", ","):
        value = number_of(known, decimal)
        odd = known.filter(value.is_null()).cast(pl.String).unique().to_list()
        if len(odd) <= 3 and set(odd) <= set(NOT_NUMBERS) and value.is_not_null().any():
            value = value.drop_nulls()
            return replace(
                base,
                kind="number",
                decimal=decimal,
                low=float(value.min()),  # type: ignore[arg-type]
                high=float(value.max()),  # type: ignore[arg-type]
                whole=bool((value == value.round(0)).all()),
                missing=(*base.missing, *sorted(odd)),
            )
    return None


def _text(base: Profile, known: pl.Series) -> Profile:
    words = known.str.count_matches(r"\p{Han}|[^\s\p{Han}]+").mean()
    return replace(
        base,
        words=float(words),  # type: ignore[arg-type]
        html=bool(known.str.contains(r"&#?\w+;|<br|<p>|</").any()),
        link=bool(known.str.contains(r"^(https?://|www\.)").all()),
    )


def _time_form(known: pl.Series) -> tuple[str, bool]:
    """(time_format, whether day and month could change places), ("", False) of no time."""
    if known.dtype.is_temporal():
        return "iso", False
    if known.dtype == pl.Boolean or not len(known):
        return "", False
    if known.dtype != pl.String or known.head(50).str.contains(r"^\d+(\.\d+)?$").all():
        value = number_of(known, ".").drop_nulls()
        low, high = value.min() or 0, value.max() or 0
        if len(value) < len(known):
            return "", False
        if low >= 19_000_101 and high <= 21_001_231 and (value == value.round(0)).all():  # type: ignore[operator]
            days = time_of(value.cast(pl.Int64).cast(pl.String), "%Y%m%d", "UTC")
            return ("%Y%m%d", False) if days.is_not_null().all() else ("", False)
        fits = [u for u, n in UNITS.items() if 5e8 * n <= low and high < 4.1e9 * n]  # type: ignore[operator]
        return (fits[0], False) if fits else ("", False)
    few = known.head(200)
    rare = pl.concat([few, known.unique().sort().tail(100)])
    fits = [form for form in ("iso", *_FORMS) if _all_of(few, form) and _mostly(rare, form)]
    swapped = [form for form in fits[1:] if sorted(form) == sorted(fits[0])]
    return (fits[0], bool(swapped)) if fits else ("", False)


def _all_of(few: pl.Series, form: str) -> bool:
    return bool(time_of(few.head(20), form, "UTC").is_not_null().mean() >= 0.9)  # type: ignore[operator]


def _mostly(values: pl.Series, form: str) -> bool:
    return bool(time_of(values, form, "UTC").is_not_null().mean() >= 0.95)  # type: ignore[operator]
