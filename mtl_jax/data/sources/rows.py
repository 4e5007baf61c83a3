"""Rows of raw files of any kind, each of which remembers the file and line it came from.

Text comes out as strings, JSON and Parquet with their own types; nothing is guessed of a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.delimited import (
    Dialect,
    found_dialect,
    line_of,
    require_columns,
    text_table,
)
from mtl_jax.data.sources.json_lines import json_line, json_table
from mtl_jax.data.sources.read import parquet_frame
from mtl_jax.data.sources.unpack import KINDS, contents_of, decoded, kind_of


@dataclass(frozen=True)
class Rows:
    """Rows of one or more files, one file after the other. parts: (file, how many rows it has)."""

    frame: pl.DataFrame
    parts: tuple[tuple[Path, int], ...]
    dialect: Dialect

    def where(self, row: int) -> str:
        """ "log.csv, row 3 (line 5)" of the row with index `row`; the file is read once more."""
        for path, height in self.parts:
            if row < height:
                line = _line(path, row, self.dialect)
                return f"{path}, row {row + 1}" + (f" (line {line})" if line else "")
            row -= height
        raise IndexError(row)


def _line(path: Path, row: int, dialect: Dialect) -> int:
    """The line of a row; 0 where a file has no lines."""
    kind = kind_of(path)
    if kind == "parquet":
        return 0
    text, encoding = decoded(path, contents_of(path), dialect.encoding)
    if kind == "json":
        return json_line(text, row)
    return line_of(text, row, found_dialect(text, dialect, encoding))


def read_rows(
    paths: Sequence[Path], names: Sequence[str] | None = None, dialect: Dialect = Dialect()
) -> Rows:
    """The columns `names` (None: all) of files of one kind, put one after the other.

    Raises:
        UserError: whatever is wrong with a file, with its line where it has one.
    """
    frames = [_read(path, names, dialect) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if not frame.height:
            raise UserError(f"{path}: the file has no rows")
    if any(frame.schema != frames[0].schema for frame in frames):
        frames = [frame.with_columns(pl.col(pl.Int64).cast(pl.Float64)) for frame in frames]
    try:
        whole = pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{paths[0].parent}: the files' columns differ: {reason}") from error
    heights = [frame.height for frame in frames]
    return Rows(whole, tuple(zip(paths, heights, strict=True)), dialect)


def _read(path: Path, names: Sequence[str] | None, dialect: Dialect) -> pl.DataFrame:
    kind = kind_of(path)
    if not kind:
        raise UserError(f"{path}: no table; known endings: {', '.join(KINDS)}, each also .gz, .zip")
    data = contents_of(path)
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
    if kind == "parquet":
        return _parquet(path, data, names)
    text, encoding = decoded(path, data, dialect.encoding)
    if kind == "json":
        return json_table(path, text, names)[0]
    return text_table(path, text, names, found_dialect(text, dialect, encoding))


def _parquet(path: Path, data: bytes, names: Sequence[str] | None) -> pl.DataFrame:
    frame = flat(parquet_frame(path, data))
    require_columns(path, frame.columns, names or ())
    if names is None:
        return frame
    for name in names:
        _require_readable(path, name, frame.schema[name])
    return frame.select(list(dict.fromkeys(names)))


def _require_readable(path: Path, name: str, dtype: pl.DataType) -> None:
    """UserError for a column of bytes, nested lists and the like."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    plain = (pl.String, pl.Boolean, pl.Null, pl.Date, pl.Datetime)
    if not (inner in plain or isinstance(inner, plain) or inner.is_numeric()):
        raise UserError(
            f"{path}: column {name!r} holds {dtype}; text, numbers, times or lists of them can be "
            "read: leave it out of the schema file, or write it as one of these"
        )


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Structs as columns of their own, "a.b"; categories as strings, decimals as floats."""
    while True:
        nested = [n for n, kind in frame.schema.items() if isinstance(kind, pl.Struct)]
        if not nested:
            break
        frame = frame.with_columns(pl.col(n).name.prefix_fields(f"{n}.") for n in nested)
        frame = frame.unnest(nested)
    return frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String), pl.col(pl.Decimal).cast(pl.Float64)
    )
