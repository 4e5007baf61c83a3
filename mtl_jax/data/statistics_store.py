"""Files of frozen statistics: .npy tables and a manifest."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.keys import Attributes
from mtl_jax.data.sums import Table


def save_parts(
    folder: Path, meta: dict[str, Any], tables: tuple[Table, ...], attributes: Attributes
) -> None:
    """Writes manifest.json, table_<i>.npy and the attributes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        **meta,
        "tables": len(tables),
        "n_users": attributes.n_users,
        "n_items": attributes.n_items,
        "category": attributes.category,
        "contexts": dict(attributes.contexts),
        "item": list(attributes.item),
        "user": list(attributes.user),
        "dense": list(attributes.item_dense),
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    for i, table in enumerate(tables):
        np.save(folder / f"table_{i}.npy", table.data)
    np.save(folder / "tags.npy", attributes.tags)
    _save_columns(folder, "item", attributes.item)
    _save_columns(folder, "user", attributes.user)
    _save_columns(folder, "dense", attributes.item_dense)


def load_parts(folder: Path) -> tuple[dict[str, Any], tuple[Table, ...], Attributes]:
    """What `save_parts` was given; arrays are memory-mapped.

    Raises:
        UserError: a file is missing or unreadable, naming it.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no readable statistics ({error}); prepare again") from None
    attributes = Attributes(
        n_users=manifest["n_users"],
        n_items=manifest["n_items"],
        item=_load_columns(folder, "item", manifest["item"]),
        tags=load_array(folder / "tags.npy"),
        user=_load_columns(folder, "user", manifest["user"]),
        contexts=manifest["contexts"],
        category=manifest["category"],
        item_dense=_load_columns(folder, "dense", manifest["dense"]),
    )
    labels = len(manifest["labels"])
    tables = [
        Table(load_array(folder / f"table_{i}.npy"), labels) for i in range(manifest["tables"])
    ]
    return manifest, tuple(tables), attributes


def _save_columns(folder: Path, kind: str, columns: Mapping[str, np.ndarray]) -> None:
    for i, column in enumerate(columns.values()):
        np.save(folder / f"{kind}_{i}.npy", column)


def _load_columns(folder: Path, kind: str, names: list[str]) -> dict[str, np.ndarray]:
    return {name: load_array(folder / f"{kind}_{i}.npy") for i, name in enumerate(names)}


def load_array(path: Path) -> np.ndarray:
    """A memory-mapped .npy; UserError naming the file if it cannot be read."""
    try:
        values: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: unreadable or truncated ({error}); prepare again") from None
    return values
