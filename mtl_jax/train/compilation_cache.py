"""Compiled programs are kept between starts: JAX's file cache, mended before it is used.

JAX writes an entry `<name>-<key>-cache` in place and then `-atime`, when it was last read. A
process that is killed, or a full disk, leaves a part of an entry: from then on every start warns,
compiles again and does not write it anew. An entry without its `-atime` makes every later write
fail.
"""

import importlib
import json
import os
import time
import zlib
from pathlib import Path

import jax
from absl import logging
from filelock import FileLock, Timeout

LIMIT = 2 << 30  # bytes; the least recently used entries make room
SECONDS = 0.2  # what compiles faster is compiled again
SEEN = "seen.json"  # entry -> [bytes, ns] of those that were found whole
_ENTRY, _READ, _LOCK = "-cache", "-atime", ".lockfile"  # names that JAX gives
_ZSTD = b"\x28\xb5\x2f\xfd"


def default_folder() -> Path:
    """In the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mtl_jax" / "xla"


def use(folder: Path) -> None:
    """Programs compiled from now on are kept in `folder`, and taken from there.

    Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mend(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS)


def mend(folder: Path) -> list[str]:
    """Remove entries that are not whole, and say when the others were read where that is lost.

    Only entries that have changed since the last time are read. Returns what was removed.
    """
    seen, found = _read_seen(folder), _stamps(folder)
    doubtful = [name for name, stamp in found.items() if seen.get(name) != stamp]
    wrong = [n for n in doubtful if not (whole(folder / n) and _has_time(folder / n))]
    removed = _mend(folder, wrong) if wrong else []
    if doubtful or len(seen) != len(found):
        left = {name: stamp for name, stamp in found.items() if name not in wrong}
        temporary = folder / f"{SEEN}.{os.getpid()}"
        temporary.write_text(json.dumps(left))
        temporary.replace(folder / SEEN)
    return removed


def whole(entry: Path) -> bool:
    """Whether an entry can be unpacked to its end; one that is gone is not of interest: True."""
    try:
        data = entry.read_bytes()
        if data[:4] == _ZSTD:
            zstandard = importlib.import_module("zstandard")  # without it JAX reads no such entry
            zstandard.ZstdDecompressor().decompress(data)
        else:
            zlib.decompress(data)
    except (FileNotFoundError, ImportError):
        return True
    except Exception as error:  # zlib's and zstandard's own; whatever it is, JAX would meet it
        logging.debug("%s: %s", entry, error)
        return False
    return True


def _mend(folder: Path, names: list[str]) -> list[str]:
    """Under JAX's lock, so that nobody is writing them."""
    removed = []
    try:
        with FileLock(folder / _LOCK, timeout=10):
            for name in names:
                entry = folder / name
                if not whole(entry):
                    entry.unlink(missing_ok=True)
                    removed.append(name)
                elif entry.exists() and not _has_time(entry):
                    _time_of(entry).write_bytes(time.time_ns().to_bytes(8, "little"))
    except Timeout:
        logging.warning("%s is locked; its broken entries stay until the next start", folder)
    for name in removed:
        logging.info("removed a broken entry of the compilation cache: %s", folder / name)
    return removed


def _time_of(entry: Path) -> Path:
    return entry.with_name(entry.name.removesuffix(_ENTRY) + _READ)


def _has_time(entry: Path) -> bool:
    try:
        return _time_of(entry).stat().st_size == 8
    except FileNotFoundError:
        return False


def _stamps(folder: Path) -> dict[str, list[int]]:
    found = {}
    with os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(_ENTRY):
                try:
                    stat = file.stat()
                except FileNotFoundError:  # another process made room
                    continue
                found[file.name] = [stat.st_size, stat.st_mtime_ns]
    return found


def _read_seen(folder: Path) -> dict[str, list[int]]:
    try:
        seen: dict[str, list[int]] = json.loads((folder / SEEN).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return seen
