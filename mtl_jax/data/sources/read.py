"""Reading raw files with errors that say which file, row, column and value.

Rows are counted from 1, headers not counted; a text file's line is named beside it.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.unpack import contents_of

# what neither UTF-8 nor Latin-1 text holds: control characters but tab and line ends
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Table:
    """A text file's columns as strings.

    first: the line of the file that row 1 stands in.
    """

    path: Path
    columns: dict[str, list[str]]
    first: int

    def integers(self, name: str, may_be_empty: bool = False) -> pl.Series:
        """Column `name` as int64; "3.0" counts as 3. UserError naming the first that is none."""
        return self._numbers(name, may_be_empty, whole=True).cast(pl.Int64)

    def floats(self, name: str, may_be_empty: bool = False) -> pl.Series:
        """Column `name` as float64; UserError naming the first that is no finite number."""
        return self._numbers(name, may_be_empty, whole=False)

    def _numbers(self, name: str, may_be_empty: bool, whole: bool) -> pl.Series:
        texts = pl.Series(name, self.columns[name], dtype=pl.String).str.strip_chars()
        values = texts.cast(pl.Float64, strict=False)
        bad = ~values.is_finite().fill_null(False)
        if whole:
            bad |= (values != values.round(0)).fill_null(True)
        if may_be_empty:
            bad &= texts != ""
        if bad.any():
            row = int(bad.arg_max() or 0)
            raise UserError(
                f"{self.path}, row {row + 1} (line {row + self.first}), column {name}: "
                f"{self.columns[name][row]!r} is not a {'whole number' if whole else 'number'}"
            )
        return values


def find(folder: Path, name: str) -> Path | None:
    """The file `name`, `name`.gz or `name`.zip in the folder, None if none is there."""
    return next((p for e in ("", ".gz", ".zip") if (p := folder / f"{name}{e}").is_file()), None)


def require(folder: Path, name: str) -> Path:
    """The file as `find` finds it; UserError naming the folder and what lies in it."""
    path = find(folder, name)
    if path is None:
        raise UserError(
            f"{folder / name}: no such file, nor {name}.gz; {contents(folder)}. "
            "data.folder must name the raw folder"
        )
    return path


def contents(folder: Path) -> str:
    """What the folder holds, in words."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(path.name for path in folder.iterdir())
    return f"the folder holds {', '.join(names[:20])}" if names else "the folder is empty"


def digests(folder: Path, paths: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """(name inside the folder, sha256) of each file."""
    return tuple(
        (str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    )


def text_lines(path: Path) -> list[str]:
    """The lines of a text file, plain, .gz or .zip, UTF-8 or else Latin-1, without line ends.

    Raises:
        UserError: an empty file, a broken .gz, or bytes that are text in neither encoding.
    """
    data = contents_of(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    odd = _CONTROL.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise UserError(
            f"{path}, line {line}: the bytes are neither UTF-8 nor Latin-1 text "
            f"(character {odd.group()!r}); is the file damaged or of another kind?"
        )
    # not str.splitlines: that also breaks at characters which may stand inside a field
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path}: the file is empty")
    return lines


def delimited(path: Path, separator: str, names: Sequence[str]) -> Table:
    """A file without header: every line has the columns `names`, in that order."""
    lines = text_lines(path)
    width = lines[0].count(separator) + 1
    if width < len(names):
        raise UserError(
            f"{path}: column {names[width]} is missing: line 1 has {width} fields separated by "
            f"{separator!r}, the columns are {', '.join(names)}"
        )
    return Table(path, _split(path, lines, separator, list(names), first=1), 1)


def headed(path: Path, separator: str, names: Sequence[str]) -> Table:
    """A file with header; the columns `names` must be there, further ones are kept.

    A header field "user_id:token" (atomic files) is the column user_id.
    """
    lines = text_lines(path)
    found = [field.split(":")[0].strip() for field in lines[0].split(separator)]
    require_columns(path, found, names)
    if len(lines) == 1:
        raise UserError(f"{path}: the file has a header and no rows")
    return Table(path, _split(path, lines[1:], separator, found, first=2), 2)


def require_columns(path: Path, found: Sequence[str], names: Sequence[str]) -> None:
    """UserError naming the first of `names` that is not among the columns found."""
    for name in names:
        if name not in found:
            raise UserError(f"{path}: column {name} is missing; columns found: {', '.join(found)}")


def _split(
    path: Path, lines: list[str], separator: str, names: list[str], first: int
) -> dict[str, list[str]]:
    rows = [line.split(separator) for line in lines]
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise UserError(
                f"{path}, row {number + 1} (line {number + first}): {len(row)} fields separated "
                f"by {separator!r}, expected {len(names)} ({', '.join(names)})"
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def parquet(path: Path, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """The columns `types` of a parquet file, cast.

    Raises:
        UserError: an empty file or none of parquet, no rows, a missing column, a value not of its
            type.
    """
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty")
    frame = parquet_frame(path, path)
    require_columns(path, frame.columns, list(types))
    if not frame.height:
        raise UserError(f"{path}: the file has no rows")
    return frame.select([_cast(path, frame[name], dtype) for name, dtype in types.items()])


def parquet_frame(path: Path, data: Path | bytes) -> pl.DataFrame:
    """The table in a parquet file, or in its bytes; UserError naming `path` where there is none.

    By pyarrow: of a damaged file polars' own reader may ask for memory without end, and abort.
    """
    try:
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        return pl.read_parquet(source, use_pyarrow=True)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as parquet: {reason}") from error


def _cast(path: Path, column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if column.dtype == dtype:
        return column
    where = f"{path}, column {column.name}"
    if isinstance(dtype, pl.List) != isinstance(column.dtype, pl.List):
        raise UserError(f"{where}: the file holds {column.dtype}, {dtype} is needed")
    cast = column.cast(dtype, strict=False)
    lost = (cast.is_null() & column.is_not_null()) | _rounded(column, cast)
    if lost.any():
        row = int(lost.arg_max() or 0)
        raise UserError(
            f"{path}, row {row + 1}, column {column.name}: {column[row]!r} is not {dtype}"
        )
    return cast


def _rounded(column: pl.Series, cast: pl.Series) -> pl.Series:
    """Where a cast to a whole number lost a fraction, or to a list a value."""
    if column.dtype.is_float() and cast.dtype.is_integer():
        return (cast.cast(pl.Float64) != column).fill_null(False)
    if isinstance(cast.dtype, pl.List):
        return cast.list.eval(pl.element().is_null()).list.any().fill_null(False)
    return pl.Series([False]).new_from_index(0, len(column))
