"""What label statistics are counted by: keys made of users, items, their columns, contexts."""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import StatisticGroup

PROFILE, CONTEXT = "profile.", "context."
_GROUP_ORDER = {"user": 0, "item": 1, "cross": 2}


@dataclass(frozen=True)
class Attributes:
    """What is known of users and items; all codes int32 with 0 = missing or unknown.

    item: column -> [n_items].  tags: [n_items, M], 0-padded, M may be 0.
    user: column -> [n_users].  contexts: column -> size of its vocabulary.
    category: the item column that "category" stands for, "" if none.
    item_dense: column -> [n_items] float32, standardised, NaN = missing.
    """

    n_users: int
    n_items: int
    item: Mapping[str, np.ndarray]
    tags: np.ndarray
    user: Mapping[str, np.ndarray]
    contexts: Mapping[str, int]
    category: str
    item_dense: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many codes each part of a key has, 0 included."""
        return {
            **{name: int(column.max(initial=0)) + 1 for name, column in self.item.items()},
            **{PROFILE + name: int(c.max(initial=0)) + 1 for name, c in self.user.items()},
            **{CONTEXT + name: size for name, size in self.contexts.items()},
            "tags": int(self.tags.max(initial=0)) + 1,
            "user": self.n_users,
            "item": self.n_items,
        }


@dataclass(frozen=True)
class Key:
    """parts: "user", "item", "tags", "profile.<c>", "context.<c>" or an item column."""

    name: str
    parts: tuple[str, ...]

    @property
    def group(self) -> StatisticGroup:
        """ "user" when no part is of the item, "item" when all are, else "cross"."""
        of_item = [not _of_query(part) for part in self.parts]
        if all(of_item):
            return "item"
        return "cross" if any(of_item) else "user"


def _of_query(part: str) -> bool:
    return part == "user" or part.startswith((PROFILE, CONTEXT))


def expand_keys(names: Sequence[str], attributes: Attributes) -> tuple[Key, ...]:
    """The keys that the configuration's names stand for, query side first, then item, cross.

    Raises:
        UserError: a name that is no column, with the nearest one.
    """
    found: dict[str, Key] = {}
    for name in names:
        choices = [_expand(token, name, attributes) for token in name.split("*")]
        for combination in itertools.product(*choices):
            shown = "*".join(text for text, _ in combination)
            found.setdefault(shown, Key(shown, tuple(part for _, part in combination)))
    return tuple(sorted(found.values(), key=lambda key: _GROUP_ORDER[key.group]))


def _expand(token: str, name: str, attributes: Attributes) -> list[tuple[str, str]]:
    """The (shown name, part) pairs of one name; none if the source has nothing of the kind."""
    further = [column for column in attributes.item if column != attributes.category]
    profile = [PROFILE + column for column in attributes.user]
    context = [CONTEXT + column for column in attributes.contexts]
    several = {
        "user": ["user"],
        "item": ["item"],
        "tags": ["tags"] if attributes.tags.shape[1] else [],
        "categorical": further,
        "profile": profile,
        "context": context,
    }
    if token == "category":
        return [("category", attributes.category)] if attributes.category else []
    if token in several:
        return [(part, part) for part in several[token]]
    single = [*further, *profile, *context]
    if token in single:
        return [(token, token)]
    near = difflib.get_close_matches(token, [*several, "category", *single], 1, 0.0)
    raise UserError(
        f"data.statistics.keys: {name!r}: there is no {token!r}; nearest is {near[0]!r}"
    )


def encode_key(
    key: Key,
    attributes: Attributes,
    users: np.ndarray,
    items: np.ndarray,
    contexts: Mapping[str, np.ndarray],
) -> np.ndarray:
    """One int64 code per row (or per row and tag), 0 where any part is missing or unknown.

    Args:
        users, items: [n] ids in range.  contexts: column -> [n] codes in range.

    Returns:
        [n, 1], or [n, M] when tags are a part.
    """
    code: np.ndarray = np.zeros((len(users), 1), np.int64)
    known: np.ndarray = np.ones((len(users), 1), bool)
    total = 1
    for part in key.parts:
        size = attributes.sizes[part]
        values = _part(key, part, attributes, users, items, contexts)
        total *= size
        code = code * size + values
        known = known & (values > 0)
    if total >= 2**56:
        raise UserError(f"data.statistics.keys: {key.name!r} has {total} values; drop a part")
    return np.where(known, code, 0)


def _part(
    key: Key,
    part: str,
    attributes: Attributes,
    users: np.ndarray,
    items: np.ndarray,
    contexts: Mapping[str, np.ndarray],
) -> np.ndarray:
    """The [n, 1] or [n, M] codes of a part."""
    if part == "user":
        return users[:, None]
    if part == "item":
        return items[:, None]
    if part == "tags":
        return attributes.tags[items]
    if part.startswith(PROFILE):
        return attributes.user[part.removeprefix(PROFILE)][users][:, None]
    if part.startswith(CONTEXT):
        name = part.removeprefix(CONTEXT)
        if name not in contexts:
            raise UserError(f"statistics by {key.name!r} need the context {name!r} of every row")
        return contexts[name][:, None]
    return attributes.item[part][items][:, None]
