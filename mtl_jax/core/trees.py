"""Paths of parameter trees: one mechanism for sharding, learning rates, decay and freezing.

A path is the dict keys joined by "/", e.g. "encoder/layer_3/attention/query/kernel".
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mtl_jax.core.errors import UserError


def path_of(key_path: Sequence[Any]) -> str:
    """ "a/b/c" from the key path of `jax.tree_util`."""
    return "/".join(
        str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in key_path
    )


def map_by_path(f: Callable[[str, Any], Any], tree: Any) -> Any:
    """Tree of `f(path, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda p, x: f(path_of(p), x), tree)


def paths(tree: Any) -> list[str]:
    """Every leaf's path, in tree order."""
    return [path_of(p) for p, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def first_match(rules: Sequence[tuple[str, Any]], path: str, default: Any = None) -> Any:
    """Value of the first rule whose regular expression is found in `path`."""
    return next((value for pattern, value in rules if re.search(pattern, path)), default)


def check_rules(rules: Sequence[tuple[str, Any]], known: Sequence[str], flag: str) -> None:
    """Refuses a rule that matches no path: a typo would otherwise do nothing, silently."""
    for pattern, _ in rules:
        if not any(re.search(pattern, p) for p in known):
            raise UserError(
                f"{flag}: the pattern {pattern!r} matches no parameter. "
                f"Paths look like: {', '.join(known[:6])}, ..."
            )


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(int(x.size) for x in jax.tree_util.tree_leaves(tree))
