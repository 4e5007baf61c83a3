"""Nearest names, for errors that help."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from mtl_jax.core.errors import UserError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" or the list of what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (
        f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}."
    )


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`, or a UserError with the nearest name."""
    if name not in table:
        raise UserError(f"unknown {what} {name!r}. {nearest(name, table)}")
    return table[name]
