"""Arrays computed once and kept: a folder per key, memory-mapped, whole or absent.

`<folder>/<name>-<first 16 hex digits of the key>/` holds one `.npy` per array and `manifest.json`.
It is written beside its place and renamed into it, so a kill leaves nothing that could be read.
"""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray

# Larger files are checked by size and header only: hashing them would cost more than it saves.
_HASHED_BYTES = 1 << 30

_in_work: set[Path] = set()  # folders this process is writing


@dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one stored array (a dtype that `.npy` knows)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of the values, without the header."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def load_or_build(
    folder: Path,
    name: str,
    key: Mapping[str, Any],
    specs: Mapping[str, ArraySpec],
    build: Callable[[dict[str, HostArray]], None],
) -> dict[str, HostArray]:
    """The arrays stored under `key`, built first when they are not there.

    Args:
      folder: where caches live; made when absent.
      name: what it is, the beginning of the folder's name.
      key: JSON-able; all that decides the values.
      specs: the arrays.
      build: fills writable arrays of these specs.

    Returns:
      Read-only memory-mapped arrays.

    Raises:
      UserError: the folder cannot be written, the disk is too small, or what is stored is damaged.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    target = folder / f"{name}-{digest[:16]}"
    if target.exists():
        logging.info("reusing %s", target)
        return _open(target, digest, specs)
    size = sum(spec.nbytes for spec in specs.values())
    logging.info("writing %s: %s", target, describe_size(specs))
    working = folder / f".building-{target.name}-{socket.gethostname()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        working.mkdir()
        _in_work.add(working)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder}: a cache cannot be written here ({error})") from error
    try:
        if free < size:
            raise UserError(f"{folder}: {size / 1e6:.1f} MB are needed, {free / 1e6:.1f} are free")
        _write(working, digest, key, specs, build)
        _move(working, target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
        _in_work.discard(working)
    return _open(target, digest, specs)


def describe_size(specs: Mapping[str, ArraySpec]) -> str:
    """For people: "vectors [2000, 384] float32, 3.1 MB"."""
    return "; ".join(
        f"{n} {list(s.shape)} {s.dtype}, {s.nbytes / 1e6:.1f} MB" for n, s in specs.items()
    )


def _write(
    working: Path,
    digest: str,
    key: Mapping[str, Any],
    specs: Mapping[str, ArraySpec],
    build: Callable[[dict[str, HostArray]], None],
) -> None:
    arrays = {
        name: np.lib.format.open_memmap(
            working / f"{name}.npy", "w+", np.dtype(spec.dtype), spec.shape
        )
        for name, spec in specs.items()
    }
    build(dict(arrays))
    files = {}
    for name, array in arrays.items():
        array.flush()
        files[name] = _fingerprint(working / f"{name}.npy")
    manifest = {"digest": digest, "key": dict(key), "files": files}
    path = working / "manifest.json"
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    for file in working.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _move(working: Path, target: Path) -> None:
    try:
        working.rename(target)
    except OSError:
        if not target.exists():
            raise
        logging.info("another process finished %s first", target)


def _open(target: Path, digest: str, specs: Mapping[str, ArraySpec]) -> dict[str, HostArray]:
    try:
        manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
        if manifest["digest"] != digest:
            raise ValueError("its manifest belongs to another key")
        arrays = {}
        for name, spec in specs.items():
            path = target / f"{name}.npy"
            if _fingerprint(path) != manifest["files"][name]:
                raise ValueError(f"{path.name} is not the file that was written")
            array = np.load(path, mmap_mode="r")
            if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
                raise ValueError(f"{path.name} holds {array.dtype} {array.shape}")
            arrays[name] = array
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{target} is damaged ({error}): delete it, and it is made anew") from error
    return arrays


def _fingerprint(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > _HASHED_BYTES:
        return {"bytes": size}
    with path.open("rb") as stream:
        return {"bytes": size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine left that are no more."""
    for path in folder.glob(f".building-*-{socket.gethostname()}-*"):
        pid = path.name.rsplit("-", 1)[1]
        left = path not in _in_work if int(pid) == os.getpid() else not _alive(int(pid))
        if left:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
