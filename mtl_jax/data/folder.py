"""Writes a prepared folder so that it is there whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.prepared import file_digest


class FolderWriter:
    """Files of one folder, named without their ending."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(self, name: str, values: np.ndarray) -> None:
        """<name>.npy"""
        path = self.folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(values))

    def json(self, name: str, values: Any) -> None:
        """<name>.json"""
        self.text(f"{name}.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def text(self, name: str, text: str) -> None:
        """A text file, named with its ending."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def files(self) -> dict[str, dict[str, Any]]:
        """Every file written so far: its size and sha256, by its name inside the folder."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": file_digest(path),
            }
            for path in paths
        }


@contextmanager
def written_whole(target: Path) -> Iterator[FolderWriter]:
    """A writer into a folder beside `target`, which takes target's place when all went well.

    Raises:
        UserError: target is something other than a prepared folder, or cannot be written.
    """
    if target.exists() and not _replaceable(target):
        raise UserError(
            f"data.prepared: {target} exists and is no prepared folder; "
            "remove it or name another folder"
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    replaced = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        _sweep(target)
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"data.prepared: cannot write {target}: {error}") from error
    try:
        yield FolderWriter(temporary)
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)


def _replaceable(target: Path) -> bool:
    return target.is_dir() and ((target / "manifest.json").exists() or not any(target.iterdir()))


def _sweep(target: Path) -> None:
    """Removes what a killed process has left: never another living process's folder."""
    for left in target.parent.glob(f".{target.name}.*.new"):
        pid = left.suffixes[-2].removeprefix(".") if len(left.suffixes) > 1 else ""
        if pid == str(os.getpid()) or (pid.isdigit() and not Path(f"/proc/{pid}").exists()):
            shutil.rmtree(left, ignore_errors=True)
