"""Columns of files as ids, numbers, times and yes or no; what cannot be read is named.

Each function takes a column without missing texts (they are null already) and `Told`, which says
where the column stands and what to do about a value that cannot be read.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from mtl_jax.core.errors import UserError

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
YES, NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")
_ISO = (
    r"^(?<date>\d{4}-\d{2}-\d{2})(?:[T ](?<minute>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,]\d+)?)?)?"
    r"\s?(?<zone>Z|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
)
_CURRENCY = r"(?i)^(?:[$€£¥₹]|usd|eur|gbp|rs\.?)\s*|\s*(?:[$€£¥₹]|usd|eur|gbp)$"
_ENTITY = re.compile(r"&#?\w+;")
_TAG = re.compile(r"<[^<>]+>")


@dataclass(frozen=True)
class Told:
    """Where a column stands: `where(row)` names file, row and line; `section` the schema's part."""

    where: Callable[[int], str]
    section: str

    def refuse(self, column: pl.Series, wrong: pl.Series, what: str, cure: str = "") -> None:
        """UserError naming the first of the `wrong` rows, if there is one."""
        if not wrong.any():
            return
        row = int(wrong.arg_max() or 0)
        value = column[row].to_list() if isinstance(column[row], pl.Series) else column[row]
        cure = cure or "if it stands for a missing value, name it in `missing` of the schema file"
        raise UserError(
            f"{self.where(row)}, column {column.name!r} ({self.section}): {value!r} is not "
            f"{what} ({int(wrong.sum())} such rows of {len(column)}); {cure}"
        )


def ids(column: pl.Series) -> pl.Series:
    """As text. Whole numbers that a writer gave a fraction ("12.0") lose it, if all have one."""
    if column.dtype.is_float():
        whole = bool((column.drop_nulls() == column.drop_nulls().round(0)).all())
        return column.cast(pl.Int64 if whole else pl.Float64).cast(pl.String)
    text = texts(column)
    known = text.drop_nulls()
    known = known.filter(known != "")
    if len(known) and known.str.contains(r"^-?\d+\.0$").all():
        return text.str.strip_suffix(".0")
    return text


def texts(column: pl.Series) -> pl.Series:
    """As text; a list's parts joined by blanks."""
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join(" ")
    return column.cast(pl.String).str.strip_chars()


def without_html(column: pl.Series) -> pl.Series:
    """Entities (`&amp;`) as the characters they stand for, tags (`<br>`) as blanks."""

    def plain(text: str) -> str:
        text = _TAG.sub(" ", text)
        while _ENTITY.search(text) and html.unescape(text) != text:  # "&amp;quot;" is met, too
            text = html.unescape(text)
        return text

    touched = column.str.contains(r"[&<]").fill_null(False)
    distinct = column.filter(touched).unique()
    return column.replace(dict(zip(distinct, [plain(text) for text in distinct], strict=True)))


def number_of(column: pl.Series, decimal: str) -> pl.Series:
    """Float64, null where the text is no finite number. "$1,299.00" is 1299 with decimal "."."""
    if column.dtype != pl.String:
        value = _floats(column)
    else:
        text = column.str.strip_chars().str.replace_all(_CURRENCY, "").str.strip_chars()
        thousand = "," if decimal == "." else "."
        grouped = rf"^[+-]?\d{{1,3}}(?:[{thousand} '\x{{a0}}\x{{202f}}]\d{{3}})+(?:\{decimal}\d*)?$"
        bare = text.str.replace_all(rf"[{thousand} '\x{{a0}}\x{{202f}}]", "")
        frame = pl.DataFrame({"text": text, "bare": bare})
        text = frame.select(
            pl.when(pl.col("text").str.contains(grouped)).then("bare").otherwise("text")
        ).to_series()
        if decimal == ",":
            # a point is then no decimal point: "1.5" is not a number here
            text = text.set(text.str.contains(".", literal=True).fill_null(False), "?")
            text = text.str.replace(",", ".", literal=True)
        value = text.cast(pl.Float64, strict=False)
    return value.set((~value.is_finite()).fill_null(False), None).alias(column.name)


def _floats(column: pl.Series) -> pl.Series:
    """Null where nothing can be made of a value: all of a column of lists."""
    try:
        return column.cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))


def numbers(column: pl.Series, told: Told, decimal: str = ".") -> pl.Series:
    """Float64; UserError naming the first text that is no number."""
    value = number_of(column, decimal)
    given = column.is_not_null()
    if column.dtype.is_float():
        given &= column.is_not_nan()
    hint = f'decimal = "{"," if decimal == "." else "."}" reads the other way of writing numbers'
    told.refuse(
        column,
        value.is_null() & given,
        "a number",
        f"if it stands for a missing value, name it in `missing` of the schema file; {hint}",
    )
    return value


def flag_of(column: pl.Series) -> pl.Series:
    """Float64 0 or 1, null where a value is neither yes nor no."""
    if column.dtype == pl.Boolean:
        return column.cast(pl.Float64)
    if column.dtype == pl.String:
        low = column.str.strip_chars().str.to_lowercase().str.strip_suffix(".0")
        names = {**dict.fromkeys(YES, 1.0), **dict.fromkeys(NO, 0.0)}
        found = low.replace_strict(names, default=None, return_dtype=pl.Float64)
        return found.alias(column.name)
    value = _floats(column)
    return value.set(~value.is_in([0.0, 1.0]).fill_null(True), None)


def flags(column: pl.Series, told: Told) -> pl.Series:
    """Float64 0 or 1; UserError naming the first value that is neither yes nor no."""
    value = flag_of(column)
    told.refuse(
        column,
        value.is_null() & column.is_not_null(),
        "0 or 1, true or false, yes or no",
        "write `is = [...]`, `at_least = ...` or `above = ...` to say what counts as 1, or "
        'kind = "value" for a number',
    )
    return value


def time_of(column: pl.Series, form: str, zone: str) -> pl.Series:
    """Unix seconds (whole, rounded down), null where a value is not of the form.

    Args:
        form: "s", "ms", "us" or "ns" since 1970, "iso", or a strptime format.
        zone: of times that name none.
    """
    if column.dtype.is_temporal():
        moment = column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column
        return _seconds(moment, zone)
    if form in UNITS:
        if column.dtype.is_integer():
            return column.cast(pl.Int64) // UNITS[form]
        value = number_of(column, ".")
        return (value / UNITS[form]).floor().cast(pl.Int64, strict=False)
    text = column.cast(pl.String).str.strip_chars()
    if form != "iso":
        return _seconds(text.str.to_datetime(form, strict=False), zone)
    parts = text.str.extract_groups(_ISO).struct.unnest()
    clock = pl.concat_str(
        "date", pl.lit("T"), pl.col("minute").fill_null("00:00"), pl.lit(":"),
        pl.col("second").fill_null("00"),
    )  # fmt: skip
    named = pl.col("zone").replace({"Z": "+0000", "UTC": "+0000"}).str.replace(":", "")
    named = pl.when(named.str.len_chars() == 3).then(named + "00").otherwise(named)
    frame = parts.select(clock.alias("clock"), named.alias("zone"))
    moment = frame["clock"].str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False)
    offset = frame.select(
        pl.col("zone").str.slice(1, 2).cast(pl.Int64) * 3600
        + pl.col("zone").str.slice(3, 2).cast(pl.Int64) * 60
    ).to_series()
    sign = frame["zone"].str.starts_with("-").cast(pl.Int64) * -2 + 1
    exact = moment.dt.epoch("s") - offset * sign
    return pl.select(pl.coalesce(exact, _seconds(moment, zone))).to_series()


def _seconds(moment: pl.Series, zone: str) -> pl.Series:
    """Unix seconds of times; those without a zone are of `zone`, an hour told twice its first."""
    if moment.dtype == pl.Datetime and getattr(moment.dtype, "time_zone", None) is None:
        moment = moment.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return moment.dt.epoch("s")


def times(column: pl.Series, told: Told, form: str, zone: str) -> pl.Series:
    """As `time_of`; UserError naming the first value that is not of the form."""
    try:
        found = time_of(column, form, zone)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{told.where(0)}, column {column.name!r} ({told.section}): time_format={form!r}, "
            f"time_zone={zone!r}: {reason}"
        ) from error
    wrong = found.is_null() & column.is_not_null()
    told.refuse(
        column,
        wrong,
        f"a time of time_format {form!r}",
        'time_format is "s", "ms", "us", "ns", "iso" or as in "%d.%m.%Y %H:%M"; if the value '
        "stands for a missing one, name it in `missing`",
    )
    return found.alias(column.name)
