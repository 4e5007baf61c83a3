"""What a column is: by its name, its values, and what it varies with.

A guess errs on the safe side: a column that could be an outcome is made a label or left out, never
an input.
"""

from typing import Literal

import polars as pl

from mtl_jax.data.sources.tables import words
from mtl_jax.data.sources.tables.heads import Head, Profile
from mtl_jax.data.sources.tables.values import ids, without_html

Role = Literal[
    "user", "item", "time", "split", "label", "grade", "behaviour", "context", "scenario",
    "item text", "item category", "item tags", "item categorical", "item dense",
    "user categorical", "user dense", "left out",
]  # fmt: skip
_NOTHING = {"empty": "no values", "other": "neither text nor numbers nor times"}
FEW = 50  # values of a categorical column of the log


def outcome(p: Profile) -> bool:
    """Named like something that came of an event, and 0 and 1 or a number."""
    return p.kind in ("flag", "number") and words.has(p.name, words.OUTCOME)


def behaviour(p: Profile) -> bool:
    """A column of kinds: few words, of which some are verbs a shop knows."""
    if p.kind != "text" or not 2 <= p.distinct <= 20 or p.words > 2:
        return False
    known = words.ACTS | words.PASSIVE | words.SHOWN
    verbs = sum(s.lower().replace(" ", "_").replace("-", "_") in known for s in p.samples)
    return verbs >= 2 or (words.has(p.name, words.BEHAVIOUR) and verbs >= 1)


def small(p: Profile) -> bool:
    """Looks like a grade: few numbers between 0 and 10."""
    return p.kind == "number" and p.distinct <= 21 and p.low >= 0 and p.high <= 10


def log_role(
    log: Head, p: Profile, user: str, item: str, time: str, files: tuple[bool, bool]
) -> tuple[Role, str]:
    if p.name == user:
        return "user", f"{_named(p, words.USER)} a user, {p.distinct} of them"
    if p.name == item:
        return "item", f"{_named(p, words.ITEM)} an item, {p.distinct} of them"
    if p.name == time:
        unsure = "; day and month could change places: check" if p.unsure else ""
        return "time", f"all values are times ({p.form}){unsure}"
    if p.kind in ("empty", "other"):
        return "left out", _NOTHING[p.kind]
    if words.has(p.name, words.SPLIT) and p.distinct <= 3 and _parts(log.frame[p.name]):
        return "split", "says train, valid or test"
    if behaviour(p):
        return "behaviour", f"{p.distinct} kinds of behaviour"
    if p.distinct == 1 and not p.absent:
        return "left out", "one value only"
    if not user and not item:
        return _row_role(p, log.frame[p.name])
    either = words.has(p.name, words.EITHER) and constant(log.frame, p.name, item)
    if (outcome(p) and not either) or (not log.names and small(p)):
        grade = p.kind == "number" and (words.has(p.name, words.GRADES) or not log.names)
        return ("grade" if grade else "label"), "named like an outcome" if log.names else "grades"
    if p.kind == "time":
        return "left out", f"a second time; {time} is taken"
    place = words.has(p.name, words.SCENARIO) and p.distinct <= FEW and p.words <= 3
    if place and not constant(log.frame, p.name, item):
        return "scenario", "names where the row comes from"
    return _side_role(log, p, user, item, files)


def _named(p: Profile, known: set[str]) -> str:
    return "named like" if words.key_score(p.name, known) else "holds ids: taken for"


def _parts(column: pl.Series) -> bool:
    parts = {"train", "valid", "validation", "val", "dev", "test", "0", "1", "2"}
    return set(ids(column).drop_nulls().str.to_lowercase().unique()) <= parts


def _side_role(
    log: Head, p: Profile, user: str, item: str, files: tuple[bool, bool]
) -> tuple[Role, str]:
    """Of the item, of the user, or of the moment: by what the column varies with."""
    described, profiled = files
    if item and constant(log.frame, p.name, item):
        if described:
            return "left out", "the same in all rows of an item, which has a file of its own"
        role, why = item_role(p, log.frame[p.name], log.frame[item].n_unique())
        return role, f"the same in all rows of an item; {why}"
    if user and constant(log.frame, p.name, user):
        if profiled:
            return "left out", "the same in all rows of a user, who has a file of profiles"
        role, why = user_role(p)
        return role, f"the same in all rows of a user; {why}"
    if p.kind == "flag":
        return "label", "0 and 1, and varies: if it is known beforehand, make it a context"
    if p.kind == "text" and p.distinct <= FEW and p.words < 4:
        return "context", f"{p.distinct} values, and varies within users and items"
    if p.kind == "number":
        return "left out", "a number that varies from row to row: an outcome? known beforehand?"
    if p.kind == "text" and p.words >= 4:
        return "left out", "text of the row itself: it may tell the outcome"
    return "left out", "nothing is known of it"


def constant(frame: pl.DataFrame, name: str, key: str) -> bool:
    """Whether the column is the same in all rows of an id, nearly always.

    Ids of one row tell nothing, nor do those that only have the commonest value: a rare outcome is
    the same in all rows of most ids.
    """
    if not key:
        return False
    value = pl.col(name)
    if isinstance(frame.schema[name], pl.List):
        value = value.cast(pl.List(pl.String)).list.join("|")
    pairs = frame.select(pl.col(key).alias("key"), value.cast(pl.String).alias("value"))
    pairs = pairs.drop_nulls()
    common = pairs["value"].mode().head(1)
    groups = (
        pairs.group_by("key")
        .agg(
            pl.len().alias("rows"),
            pl.col("value").n_unique().alias("values"),
            pl.col("value").is_in(common.implode()).all().alias("common"),
        )
        .filter((pl.col("rows") > 1) & ~pl.col("common"))
    )
    return groups.height > 0 and bool((groups["values"] == 1).mean() > 0.95)  # type: ignore[operator]


def _row_role(p: Profile, column: pl.Series) -> tuple[Role, str]:
    """Rows that are no events: each is an item of its own."""
    target = words.has(p.name, {"label", "target", "sentiment", "y", "class", "outcome"})
    if p.kind == "flag" and target:
        return "label", "named like an outcome"
    if p.kind == "number" and (outcome(p) or target):
        return "grade" if small(p) else "label", "named like an outcome"
    role, why = item_role(p, column, len(column))
    return role, f"of the row; {why}"


def item_role(p: Profile, column: pl.Series, of: int) -> tuple[Role, str]:
    """A column that describes `of` items."""
    if p.kind in _NOTHING or (p.distinct == 1 and not p.absent):
        return "left out", _NOTHING.get(p.kind, "one value only")
    if p.kind == "time":
        return "left out", "a time: not read yet"
    if p.link:
        return "left out", "links"
    many = p.distinct > max(FEW, 0.2 * of) or p.distinct >= 0.5 * of
    if p.kind == "text" and many and words.has(p.name, words.TITLE):
        return "item text", "named like a title"
    if p.kind == "list" or tag_separator(p, column):
        return "item tags", "several values in one"
    if p.kind in ("number", "flag"):
        if _numbered(p):
            return "left out", "a number that names something"
        if p.kind == "number":
            return "item dense", "numbers"
        return "item categorical", "two values"
    if p.words >= 6 or (many and words.has(p.name, words.TEXT)):
        return "item text", f"text, {p.words:.0f} words"
    if not many:
        if words.has(p.name, words.CATEGORY):
            return "item category", f"named like a category, {p.distinct} values"
        return "item categorical", f"{p.distinct} values"
    if p.words >= 2.5:
        return "item text", f"text, {p.words:.0f} words"
    return "left out", "nearly every item has its own"


def _numbered(p: Profile) -> bool:
    found = words.tokens(p.name)
    return bool(found) and (found[-1] in words.NAMES or p.name.lower().endswith("id"))


def user_role(p: Profile) -> tuple[Role, str]:
    """A column that describes users."""
    if p.kind in (*_NOTHING, "list", "time") or (p.distinct == 1 and not p.absent):
        told = {**_NOTHING, "time": "a time: not read yet", "list": "several values in one"}
        return "left out", told.get(p.kind, "one value only")
    if p.kind == "number":
        if _numbered(p):
            return "left out", "a number that names something"
        return "user dense", "numbers"
    if p.distinct <= max(FEW, 0.05 * p.rows):
        return "user categorical", f"{p.distinct} values"
    return "left out", "nearly every user has their own"


def tag_separator(p: Profile, column: pl.Series) -> str:
    """What separates the values of a column that holds several, "" if it does not."""
    if p.kind != "text" or isinstance(column.dtype, pl.List):
        return ""
    known = without_html(column.drop_nulls()) if p.html else column.drop_nulls()
    named = words.has(p.name, words.TAGS)
    for separator, enough in (("|", 0.2), (";", 0.5), (",", 0.5)):
        share = known.str.contains(separator, literal=True).mean() or 0
        if share < (0.2 if named else enough):  # type: ignore[operator]
            continue
        parts = known.str.split(separator).list.explode().str.strip_chars()
        if parts.n_unique() < 0.3 * len(parts) and (parts.str.len_chars().mean() or 99) < 25:  # type: ignore[operator]
            return separator
    return ""
