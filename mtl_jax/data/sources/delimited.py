"""Delimited text: its separator, its columns as strings, and which line a row stands in."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest

SEPARATORS = (",", "\t", ";", "|", "::")
_TOLD = re.compile(r"\ufeff?sep=(.)(?=\r?\n)")  # how Excel tells the separator
_UNIT = "\x1f"  # ASCII's own separator of fields: stands in for one of several characters


@dataclass(frozen=True)
class Dialect:
    """How a text file is written; what is "" or empty is found in the file.

    columns: names for a file without a header.
    """

    separator: str = ""
    encoding: str = ""
    columns: tuple[str, ...] = ()


def found_dialect(text: str, dialect: Dialect, encoding: str) -> Dialect:
    """The dialect with its blanks filled from the text's beginning."""
    told = _TOLD.match(text)
    separator = dialect.separator or (told.group(1) if told else _separator(text))
    return replace(dialect, separator=separator, encoding=encoding)


def body(text: str, separator: str) -> tuple[str, str]:
    """(text, separator) as parsers of one character take them; line numbers stay as they are."""
    text = _TOLD.sub("", text.removeprefix("\ufeff"))
    if len(separator) > 1:
        return text.replace(separator, _UNIT), _UNIT
    return text, separator


def _separator(text: str) -> str:
    """The one that cuts the first records into equally many fields, at least two; else a comma."""
    head = text[:200_000]
    if len(text) > len(head):
        head = head[: head.rfind("\n") + 1]
    best, found = (0.0, 0), ","
    for separator in SEPARATORS:
        widths = [len(r) for _, r in zip(range(100), records(head, separator), strict=False)]
        if widths and widths[0] > 1:
            score = (sum(w == widths[0] for w in widths) / len(widths), widths[0])
            best, found = max((best, found), (score, separator))
    return found


def records(text: str, separator: str) -> Iterator[list[str]]:
    text, separator = body(text, separator)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        yield from (record for record in reader if record)
    except csv.Error:
        return


def text_table(
    path: Path, text: str, names: Sequence[str] | None, dialect: Dialect
) -> pl.DataFrame:
    """The columns `names` (None: all) of delimited text, as strings."""
    text, separator = body(text, dialect.separator)
    header = next(records(text, separator), [])
    found = list(dialect.columns) or column_names(header)
    if dialect.columns and len(header) != len(found):
        raise UserError(
            f"{path}: {len(found)} columns are named, line 1 has {len(header)} fields separated "
            f"by {dialect.separator!r}"
        )
    _distinct(path, found)
    wanted = list(names) if names is not None else found
    require_columns(path, found, wanted)
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            arrow_csv.ReadOptions(column_names=found, skip_rows=0, skip_rows_after_names=0),
            arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                strings_can_be_null=False,
                column_types=dict.fromkeys(found, pa.string()),
                include_columns=list(dict.fromkeys(wanted)),
            ),
        )
    except pa.ArrowInvalid as error:
        raise _ragged(path, text, separator, dialect, len(found), error) from error
    if text.count('"') % 2:
        _require_closed(path, text, separator)
    frame = pl.DataFrame(pl.from_arrow(table))
    return frame if dialect.columns else frame.slice(1)


def column_names(header: Sequence[str]) -> list[str]:
    """The header's names; a blank one, as a written index has, is column_<its place>."""
    return [name.strip() or f"column_{i + 1}" for i, name in enumerate(header)]


def _distinct(path: Path, names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one")


def require_columns(path: Path, found: Sequence[str], names: Sequence[str]) -> None:
    """UserError naming the first of `names` that is not among the columns found."""
    for name in names:
        if name not in found:
            raise UserError(f"{path}: there is no column {name!r}. {nearest(name, found)}")


def _require_closed(path: Path, text: str, separator: str) -> None:
    """UserError where a quoted field runs to the end of the file, and all rows after it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    try:
        for _ in reader:
            begins = reader.line_num + 1
    except csv.Error as found:
        if "end of data" in str(found):
            raise UserError(f"{path}, line {begins}: a quote that is not closed") from None


def _ragged(
    path: Path, text: str, separator: str, dialect: Dialect, width: int, error: Exception
) -> UserError:
    """The first record with another number of fields, found the slow way."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    try:
        for record in reader:
            if record and len(record) != width:
                return UserError(
                    f"{path}, line {begins}: {len(record)} fields separated by "
                    f"{dialect.separator!r}, {width} are expected"
                )
            begins = reader.line_num + 1
    except csv.Error as found:
        return UserError(f"{path}, line {begins}: {found}: a quote that is not closed?")
    return UserError(f"{path}: cannot be read: {error}")


def line_of(text: str, row: int, dialect: Dialect) -> int:
    """The line that row `row` begins in: records may span lines, and blank lines hold none."""
    text, separator = body(text, dialect.separator)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    seen, begins = 0 if dialect.columns else -1, 1
    for record in reader:
        if record:
            if seen == row:
                return begins
            seen += 1
        begins = reader.line_num + 1
    return begins
