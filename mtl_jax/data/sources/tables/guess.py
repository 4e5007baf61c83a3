"""Which file is the log, which tell of items and users, and which columns hold their ids."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mtl_jax.data.sources.tables import words
from mtl_jax.data.sources.tables.heads import Head, Profile, profile
from mtl_jax.data.sources.tables.roles import (
    Role,
    behaviour,
    constant,
    item_role,
    log_role,
    outcome,
    small,
    user_role,
)
from mtl_jax.data.sources.tables.values import UNITS, ids


@dataclass(frozen=True)
class Guess:
    """One column: what it is taken for, and why."""

    column: str
    role: Role
    why: str
    profile: Profile


@dataclass(frozen=True)
class Section:
    """The files of a section, with the guesses about their columns. key: column of the ids."""

    heads: tuple[Head, ...]
    guesses: tuple[Guess, ...]
    key: str = ""

    def of(self, *roles: Role) -> list[Guess]:
        """The guesses of these roles, in order of the columns."""
        return [guess for guess in self.guesses if guess.role in roles]


@dataclass(frozen=True)
class Guesses:
    """What a folder holds. items, users: None where there is no such file."""

    events: Section
    items: Section | None
    users: Section | None
    unused: tuple[Path, ...]


def guess(heads: list[Head]) -> Guesses:
    """Guesses about all files."""
    profiles = {head.path: [profile(column) for column in head.frame] for head in heads}
    log = max(heads, key=lambda head: _log_score(head, profiles[head.path]))
    same = [h for h in heads if h.frame.columns == log.frame.columns and h.names == log.names]
    user, item = _keys(log, profiles[log.path])
    rest = [head for head in heads if head not in same]
    items = _catalogue(rest, profiles, log, item, words.ITEM)
    rest = [head for head in rest if head is not items]
    users = _catalogue(rest, profiles, log, user, words.USER)
    rest = [head for head in rest if head is not users]
    guesses = _log_guesses(
        log, profiles[log.path], user, item, (items is not None, users is not None)
    )
    return Guesses(
        Section(tuple(same), tuple(guesses)),
        _described(items, profiles, _key_of(items, log, item, words.ITEM)) if items else None,
        _profiled(users, profiles, _key_of(users, log, user, words.USER)) if users else None,
        tuple(head.path for head in rest),
    )


def _log_score(head: Head, profiles: list[Profile]) -> tuple[int, int]:
    user, item = _keys(head, profiles)
    times = any(p.kind == "time" for p in profiles)
    outcomes = any(outcome(p) or behaviour(p) for p in profiles if p.name not in (user, item))
    return 2 * bool(user) + bool(item) + times + outcomes, head.frame.height


def _keys(head: Head, profiles: list[Profile]) -> tuple[str, str]:
    """(user column, item column), "" where there is none."""
    if not head.names:
        repeated = [p.name for p in profiles if p.kind in ("number", "text") and _repeats(p)]
        grades = {p.name for p in profiles if small(p)}
        keys = [name for name in repeated if name not in grades]
        return (keys[0], keys[1]) if len(keys) > 1 and _any_time(profiles) else ("", "")
    user = _best(profiles, words.USER)
    item = _best([p for p in profiles if p.name != user], words.ITEM)
    if item and not user:
        user = _like_ids(head, [p for p in profiles if p.name != item], item)
    elif user and not item:
        item = _like_ids(head, [p for p in profiles if p.name != user], user)
    return user, item


def _like_ids(head: Head, profiles: list[Profile], other: str) -> str:
    """A column whose values look like ids, repeat, and are not told by the `other` ids."""
    found = [
        (p.distinct, p.name)
        for p in profiles
        if p.kind == "text"
        and p.words <= 1.01
        and _repeats(p)
        and p.distinct >= 0.02 * p.rows
        and head.frame[p.name].drop_nulls().str.contains(r"^[\w-]*\d[\w-]*$|^$").all()
        and not constant(head.frame, p.name, other)
    ]
    return max(found, default=(0, ""))[1]


def _best(profiles: list[Profile], known: set[str]) -> str:
    scored = [
        (words.key_score(p.name, known), -i, p.name)
        for i, p in enumerate(profiles)
        if p.kind in ("number", "text", "flag") and p.words < 8
    ]
    score, _, name = max(scored, default=(0, 0, ""))
    return name if score else ""


def _any_time(profiles: list[Profile]) -> bool:
    return any(p.kind == "time" for p in profiles)


def _repeats(p: Profile) -> bool:
    return p.distinct < 0.9 * (p.rows - p.absent)


def _catalogue(
    heads: list[Head],
    profiles: dict[Path, list[Profile]],
    log: Head,
    key: str,
    known: set[str],
) -> Head | None:
    """The file that describes what `key` of the log names: the one that tells most of it."""
    found = []
    for head in heads:
        own = _key_of(head, log, key, known)
        if own:
            told = sum(min(p.words, 20) + 1 for p in profiles[head.path])
            found.append((told, head.path.name, head))
    return max(found)[2] if found else None


def _key_of(head: Head, log: Head, key: str, known: set[str]) -> str:
    """The column of a catalogue whose values are the log's ids, "" if none."""
    if not key:
        return ""
    wanted = set(ids(log.frame[key]).drop_nulls().unique())
    for name in sorted(head.frame.columns, key=lambda n: (n != key, -words.key_score(n, known))):
        named = name == key or words.key_score(name, known) or set(words.tokens(name)) <= words.KEY
        column = head.frame[name]
        if not (named or not (head.names or log.names)) or isinstance(column.dtype, pl.List):
            continue
        values = ids(column).drop_nulls()
        distinct = set(values)
        if len(distinct) >= 0.9 * len(values) and len(wanted & distinct) >= 0.2 * min(
            len(wanted), len(distinct)
        ):
            return name
    return ""


def _log_guesses(
    log: Head, profiles: list[Profile], user: str, item: str, files: tuple[bool, bool]
) -> list[Guess]:
    moments = [p for p in profiles if p.kind == "time" and p.name not in (user, item)]
    named = [p.name for p in moments if words.has(p.name, words.TIME)]
    clocks = [p.name for p in moments if p.form in UNITS]
    time = next(iter([n for n in clocks if n in named] or named or [p.name for p in moments]), "")
    found = []
    for p in profiles:
        role, why = log_role(log, p, user, item, time, files)
        found.append(Guess(p.name, role, why, p))
    return found


def _described(head: Head, profiles: dict[Path, list[Profile]], key: str) -> Section:
    guesses = []
    category = False
    for p in profiles[head.path]:
        column = head.frame[p.name]
        role, why = item_role(p, column, len(column)) if p.name != key else ("item", "the id")
        if role == "item category":
            role, why = ("item categorical", "a second category") if category else (role, why)
            category = True
        guesses.append(Guess(p.name, role, why, p))
    return Section((head,), tuple(guesses), key)


def _profiled(head: Head, profiles: dict[Path, list[Profile]], key: str) -> Section:
    guesses = [
        Guess(p.name, *(user_role(p) if p.name != key else ("user", "the id")), p)
        for p in profiles[head.path]
    ]
    return Section((head,), tuple(guesses), key)
