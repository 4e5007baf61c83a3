"""The bytes and the text of raw files: plain, .gz or .zip, in whatever encoding."""

import gzip
import zipfile
import zlib
from pathlib import Path

from mtl_jax.core.errors import UserError

_PACKED = (".gz", ".zip")
KINDS = {
    ".csv": "text", ".tsv": "text", ".txt": "text", ".dat": "text", ".data": "text",
    ".test": "text", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """ "text", "json" or "parquet" by the file's ending, .gz and .zip aside; "" of no table."""
    plain = path.with_suffix("") if path.suffix in _PACKED else path
    if path.suffix == ".zip" and plain.suffix not in KINDS:
        return KINDS.get(Path(_member(path)).suffix, "")
    return KINDS.get(plain.suffix.lower(), "")


def contents_of(path: Path, limit: int = -1) -> bytes:
    """The first `limit` bytes (-1: all) of a file, unpacked.

    Raises:
        UserError: a file that cannot be read, or a .zip of several files.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read(limit)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_member(path)) as member:
                return member.read(limit)
        with path.open("rb") as plain:
            return plain.read(limit)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _member(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if len(names) != 1:
        raise UserError(f"{path}: holds {len(names)} files ({', '.join(names[:5])}); unpack it")
    return names[0]


def decoded(path: Path, data: bytes, encoding: str = "", cut: bool = False) -> tuple[str, str]:
    """(text, its encoding): the one given, or a byte order mark's, UTF-8, Windows-1252.

    Args:
        cut: the data are the beginning of a file, and may end inside a character.

    Raises:
        UserError: bytes that are not text in the encoding, naming the line.
    """
    if not encoding:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        elif data[:3] == b"\xef\xbb\xbf":
            encoding = "utf-8-sig"
    tried = (encoding,) if encoding else ("utf-8", "cp1252")
    for name in tried:
        try:
            return data.decode(name), name
        except LookupError:
            raise UserError(f"{path}: there is no encoding {name!r}") from None
        except UnicodeDecodeError as found:
            if cut and found.start >= len(data) - 4:
                return data[: found.start].decode(name), name
            error = found
    line = data.count(b"\n", 0, error.start) + 1
    raise UserError(
        f"{path}, line {line}: the bytes are no {' or '.join(tried)} text; name the file's "
        "encoding (encoding = ... in the schema file), or is it damaged or of another kind?"
    )
