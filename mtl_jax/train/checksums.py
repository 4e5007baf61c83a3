"""Checksums of a checkpoint's files: Orbax itself reads flipped bits without a word."""

import hashlib
import json
from pathlib import Path

NAME = "checksums.json"  # {path below the step's folder: sha256}


def write(folder: Path) -> None:
    """Write the checksums of all that lies in `folder`, which nobody writes to any more."""
    found = {name: _digest(folder / name) for name in _files(folder)}
    (folder / NAME).write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")


def damage(folder: Path) -> str | None:
    """What is wrong with the first file that is not as `write` found it; None if all are."""
    try:
        told = json.loads((folder / NAME).read_text())
        there = _files(folder)
        for name in sorted({*told, *there}):
            if name not in there:
                return f"{folder / name} is missing"
            if name not in told:
                return f"{folder / name} is not among its checksums"
            if _digest(folder / name) != told[name]:
                return f"{folder / name} differs from its checksum"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, TypeError) as error:
        return f"{folder} cannot be read: {error}"
    return None


def _files(folder: Path) -> list[str]:
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != NAME)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
