"""Which parameters are one task's own, and the groups that a Gramian is taken over."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mtl_jax.balance.gramian import gramian
from mtl_jax.core.types import Array

OWN = re.compile(r"^heads/(head_|(.*/)?task_)")


def is_own(path: str, reached: tuple[str, ...] = ()) -> bool:
    """Whether a parameter's path is one task's own: a head, or a trunk's part for one task.

    reached: tasks whose heads other tasks' losses reach, which makes them shared.
    """
    if path.split("/")[1:2] and path.split("/")[1] in {f"head_{t}" for t in reached}:
        return False
    return bool(OWN.search(path))


def group_of(groups: str, path: str) -> str:
    """The group of an array: itself ("matrix"), or the module that holds it ("layer")."""
    return path if groups == "matrix" else path.rsplit("/", 1)[0]


def group_names(groups: str, dense: Mapping[str, Any], tables: tuple[str, ...]) -> list[str]:
    """Names of the groups in order: modules or arrays, then each table's rows."""
    found = dict.fromkeys(group_of(groups, path) for path in dense)
    return [*found, *(f"rows/{name}" for name in sorted(tables))]


def by_group(groups: str, J: Mapping[str, Mapping[str, Any]]) -> Array:
    """Gramians [groups, T, T] of {"params": {path: [T, ...]}, "rows": {table: [T, R, D]}}."""
    dense, rows = J["params"], J["rows"]
    found = []
    for name in group_names(groups, dense, tuple(rows)):
        if name.startswith("rows/"):
            found.append(gramian(rows[name.removeprefix("rows/")]))
        else:
            found.append(gramian([g for p, g in dense.items() if group_of(groups, p) == name]))
    return jnp.stack(found)
