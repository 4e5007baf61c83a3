"""The schema file: what is in it, and what is wrong with one."""

import math
import tomllib
import typing
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.data.sources.delimited import Dialect

MISSING_TEXTS = ("", "NULL", "null", "None", "NaN", "nan", "N/A", "\\N")
T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Which files a section reads, and how they are written.

    files: names or patterns ("log-*.csv") inside the folder; none: the columns are the events'.
    separator, encoding: found in the files where they are "".
    columns: the columns' names, for files without a header.  decimal: "." or ",".
    """

    files: tuple[str, ...] = ()
    separator: str = ""
    encoding: str = ""
    columns: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."

    @property
    def dialect(self) -> Dialect:
        """How the text files are written."""
        return Dialect(self.separator, self.encoding, self.columns)


@dataclass(frozen=True)
class Events(Files):
    """Section [events]: one row is one event.

    user, item: columns of ids. Without a user all rows are of one user; without an item every row
        is an item of its own (texts, tables).
    time, time_format, time_zone: see `values.time_of`; a time that names no zone is of time_zone.
    order: without a time: "rows" (the rows stand in the order in which they happened: the row's
        number is the time) or "none".
    context: categorical columns known before the outcome.  scenario: one that names the place
        (tab, page, shop) that the row comes from; a context called scenario.
    split: a column that says train, valid or test (or 0, 1, 2).
    positive: the binary label that makes histories; "" is the first.
    """

    user: str = ""
    item: str = ""
    time: str = ""
    time_format: str = ""
    time_zone: str = "UTC"
    order: Literal["rows", "none"] = "none"
    context: tuple[str, ...] = ()
    scenario: str = ""
    split: str = ""
    positive: str = ""


@dataclass(frozen=True)
class LabelRule:
    """Section [labels.<name>]: how a label comes out of a row.

    column: where it stands; a row without a value has no label.
    one_of: 1 where the column is one of these, 0 elsewhere.  at_least: 1 from there on.
    above: 1 beyond it.
    always: 1 on every row, no column: for logs that hold only what happened.
    kind: "binary", or "value" (a number; low and high are its range). Without any of these a
        binary column holds 0 and 1, true and false, or yes and no.
    """

    column: str = ""
    one_of: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    always: bool = False
    kind: Literal["binary", "value"] = "binary"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Items(Files):
    """Section [items]: the catalogue, or columns of the events.

    id: the column that holds the item's id; "" is the same name as in the events.
    text: text columns.  template: an item's text, `{column}` for its columns; it becomes the
        column `text`. "" is the text columns with a full stop between.
    html: text columns hold entities (&amp;) and tags.
    tags, tags_separator: a column with several values in it.
    category: the main category; the column of the tags stands for the first of them.
    categorical, dense: further columns, names and numbers.
    """

    id: str = ""
    text: tuple[str, ...] = ()
    template: str = ""
    html: bool = False
    category: str = ""
    tags: str = ""
    tags_separator: str = "|"
    categorical: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()


@dataclass(frozen=True)
class Users(Files):
    """Section [users]: profiles, or columns of the events. As `Items`."""

    id: str = ""
    categorical: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A schema file. missing: texts that stand for a missing value, in all but text columns."""

    events: Events
    labels: dict[str, LabelRule]
    items: Items = Items()
    users: Users = Users()
    missing: tuple[str, ...] = MISSING_TEXTS


def read_layout(path: Path) -> Layout:
    """The schema file at `path`.

    Raises:
        UserError: no such file, no TOML, an unknown or ill-typed name, or sections that cannot be.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no schema file. `python -m experiments.prepare --inspect=<folder> "
            "--workdir=<folder>` writes one; data.schema names it"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no TOML: {error}") from None
    return parse_layout(values, str(path))


def parse_layout(values: dict[str, Any], where: str) -> Layout:
    """The layout of what the TOML file holds; errors begin with `where`."""
    known = ("events", "labels", "items", "users", "missing")
    for name in values:
        if name not in known:
            raise UserError(f"{where}: no section {name!r}. {nearest(name, known)}")
    if "events" not in values:
        raise UserError(f"{where}: section [events] is missing: it names the files of the log")
    rules = _table(values.get("labels", {}), f"{where}: [labels]")
    found = Layout(
        section(Events, values["events"], f"{where}: [events]"),
        {name: section(LabelRule, v, f"{where}: [labels.{name}]") for name, v in rules.items()},
        section(Items, values.get("items", {}), f"{where}: [items]"),
        section(Users, values.get("users", {}), f"{where}: [users]"),
    )
    if "missing" in values:
        texts = _value(values["missing"], tuple[str, ...], f"{where}: missing")
        found = replace(found, missing=tuple(dict.fromkeys(("", *texts))))
    _agree(found, where)
    return found


def section(kind: type[T], values: Any, where: str) -> T:
    """A dataclass of a TOML table; unknown and ill-typed names are refused."""
    types = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, value in _table(values, where).items():
        if name not in types:
            raise UserError(f"{where}: there is no {name!r} here. {nearest(name, types)}")
        given[name] = _value(value, types[name].type, f"{where}: {name}")
    needed = [n for n, f in types.items() if f.default is MISSING and n not in given]
    if needed:
        raise UserError(f"{where}: {needed[0]!r} is missing")
    return kind(**given)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a section, not {value!r}")
    return value


def _value(value: Any, kind: Any, where: str) -> Any:
    """`value` as the annotated type: a name, a list of names, a number, yes or no."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(v, str | int | float) for v in listed):
            raise UserError(f"{where}: {value!r} is no list of names")
        return tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in listed)
    if float in args:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{where}: {value!r} is no number")
        return float(value)
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where}: {value!r} is neither true nor false")
        return value
    if not isinstance(value, str):
        raise UserError(f"{where}: {value!r} is no text; write it in quotes")
    if origin is Literal and value not in args:
        raise UserError(f"{where}: {value!r} is not one of {args}. {nearest(value, args)}")
    return value


def _agree(layout: Layout, where: str) -> None:
    """What no section can know of itself."""
    events, items = layout.events, layout.items
    if not events.files:
        raise UserError(f"{where}: [events]: files is missing: the log's file or files")
    if not layout.labels:
        raise UserError(
            f"{where}: there is no label. A log of what happened, without outcomes, has "
            "[labels.interaction] with always = true"
        )
    for name, rule in layout.labels.items():
        ways = [w for w in ("one_of", "always") if getattr(rule, w)]
        ways += [w for w in ("at_least", "above") if getattr(rule, w) is not None]
        ways += ["kind = value"] if rule.kind == "value" else []
        if len(ways) > 1:
            raise UserError(f"{where}: [labels.{name}]: {ways[0]} and {ways[1]} exclude each other")
        numbers = [rule.low, rule.high, rule.at_least, rule.above]
        if not all(math.isfinite(n) for n in numbers if n is not None) or (
            rule.low is not None and rule.high is not None and rule.low >= rule.high
        ):
            raise UserError(
                f"{where}: [labels.{name}]: low={rule.low} must be below high={rule.high}, and "
                "every number finite"
            )
        if bool(rule.column) == rule.always:
            raise UserError(f"{where}: [labels.{name}]: name its column, or write always = true")
    binary = [name for name, rule in layout.labels.items() if rule.kind == "binary"]
    if events.positive and events.positive not in binary:
        raise UserError(
            f"{where}: [events]: positive={events.positive!r} is no binary label. "
            f"{nearest(events.positive, binary)}"
        )
    if not binary:
        raise UserError(
            f"{where}: one binary label is needed (say, at_least = 4 of a rating): it says which "
            "events make a user's history"
        )
    if events.time and not events.time_format:
        raise UserError(
            f'{where}: [events]: time_format is missing: "s", "ms", "us", "ns", "iso" or as in '
            '"%d.%m.%Y %H:%M"'
        )
    if items.files and not events.item:
        raise UserError(f"{where}: [items] has files, but [events] names no item column")
    if layout.users.files and not events.user:
        raise UserError(f"{where}: [users] has files, but [events] names no user column")
