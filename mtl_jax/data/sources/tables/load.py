"""From the files that a schema file describes to `RawData`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.data.schema import Columns, Label, RawData
from mtl_jax.data.sources.read import contents, digests
from mtl_jax.data.sources.rows import Rows, read_rows
from mtl_jax.data.sources.tables.layout import Files, Items, Layout, read_layout
from mtl_jax.data.sources.tables.values import Told, flags, ids, numbers, texts, times, without_html
from mtl_jax.data.text import render

ANYONE = "anyone"  # the user of rows that have none
TEXT = "text"  # the column that the template is rendered into
SCENARIO = "scenario"
PARTS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
_TAKEN = ("user", "item", "time", "split", "history", "history_time", "row", "flag", TEXT)


def load_tables(folder: str | Path, schema: str | Path = "") -> RawData:
    """The raw folder as RawData, name "tables"; see `layout` for what a schema file says.

    Columns keep their names, with "_" for all but letters and digits ("user.age" is user_age).

    Args:
        schema: the schema file; "" is `schema.toml` in the folder.

    Raises:
        UserError: a schema file, file, column or value that is missing or not what it must be.
    """
    base = Path(folder)
    path = Path(schema) if str(schema) else base / "schema.toml"
    return load_layout(base, read_layout(path))


def load_layout(base: Path, layout: Layout) -> RawData:
    """As `load_tables`, with the schema file read."""
    events, items, users = layout.events, layout.items, layout.users
    from_log = [] if items.files else _item_columns(layout)
    from_log += [] if users.files else [*users.categorical, *users.dense]
    wanted = [
        *filter(None, (events.user, events.item, events.time, events.scenario, events.split)),
        *(rule.column for rule in layout.labels.values() if rule.column),
        *events.context,
        *from_log,
    ]
    log = _Section(base, "[events]", events, layout.missing, wanted)
    frame = _event_table(log, layout)
    item_ids, item_section = frame["item"], log
    if items.files:
        key = items.id or events.item
        item_section = _Section(
            base, "[items]", items, layout.missing, [key, *_item_columns(layout)]
        )
        item_ids = item_section.ids(key)
    user_ids, user_section = frame["user"], log
    if users.files:
        key = users.id or events.user
        names = [key, *users.categorical, *users.dense]
        user_section = _Section(base, "[users]", users, layout.missing, names)
        user_ids = user_section.ids(key)
    read = dict.fromkeys(p for s in (log, item_section, user_section) for p in s.paths)
    return RawData(
        "tables",
        frame,
        _item_table(item_section, item_ids, layout),
        _user_table(user_section, user_ids, layout),
        _columns(layout),
        digests(base, list(read)),
    )


def as_name(column: str) -> str:
    """A column's name as the prepared data has it: letters, digits and "_"."""
    name = re.sub(r"\W+", "_", column).strip("_") or "column"
    return f"{name}_" if name in _TAKEN else name


class _Section:
    """The rows that a section of the schema file reads."""

    def __init__(
        self, base: Path, name: str, files: Files, missing: Sequence[str], wanted: Sequence[str]
    ) -> None:
        self.name, self.missing, self.decimal = name, missing, files.decimal
        self.paths = matching(base, files.files, name)
        self.rows: Rows = read_rows(self.paths, list(dict.fromkeys(wanted)), files.dialect)
        self.told = Told(self.rows.where, name)

    def __len__(self) -> int:
        return self.rows.frame.height

    def column(self, name: str) -> pl.Series:
        """Stripped, and null where its text stands for a missing value."""
        column = self.rows.frame[name]
        if column.dtype != pl.String:
            return column
        column = column.str.strip_chars()
        return column.set(column.is_in(list(self.missing)).fill_null(False), None)

    def ids(self, name: str) -> pl.Series:
        return ids(self.column(name))

    def numbers(self, name: str) -> pl.Series:
        return numbers(self.column(name), self.told, self.decimal)


def matching(base: Path, patterns: Sequence[str], section: str) -> list[Path]:
    """The files that names or patterns name, in order of name; each plain, .gz or .zip.

    Raises:
        UserError: a pattern that no file fits.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        fits = sorted(p for p in base.glob(pattern) if p.is_file())
        if not fits:
            packed = [base / f"{pattern}{ending}" for ending in (".gz", ".zip")]
            fits = [p for p in packed if p.is_file()]
        if not fits:
            raise UserError(f"{base / pattern}: no such file ({section} files); {contents(base)}")
        found.update(dict.fromkeys(fits))
    return list(found)


def _event_table(log: _Section, layout: Layout) -> pl.DataFrame:
    events = layout.events
    number = pl.Series(range(1, len(log) + 1), dtype=pl.Int64)
    columns = {
        "user": log.ids(events.user)
        if events.user
        else pl.Series([ANYONE]).new_from_index(0, len(log)),
        "item": log.ids(events.item) if events.item else number.cast(pl.String),
        "time": number if events.order == "rows" else number * 0 + 1,
    }
    if events.time:
        columns["time"] = times(
            log.column(events.time), log.told, events.time_format, events.time_zone
        )
    for name in layout.labels:
        columns[name] = _label(log, layout, name)
    contexts = {as_name(name): name for name in events.context}
    contexts |= {SCENARIO: events.scenario} if events.scenario else {}
    for name, source in contexts.items():
        if name in columns:
            raise UserError(
                f"schema file, [events]: a label and a context are both called {name!r}"
            )
        columns[name] = ids(log.column(source))
    if events.split:
        columns["split"] = _parts(log, events.split)
    return pl.DataFrame({name: column.alias(name) for name, column in columns.items()})


def _label(log: _Section, layout: Layout, name: str) -> pl.Series:
    rule = layout.labels[name]
    if name in _TAKEN or as_name(name) != name:
        raise UserError(
            f"schema file, [labels.{name}]: a label cannot have this name; rename the section"
        )
    if rule.always:
        return pl.Series([1.0]).new_from_index(0, len(log))
    column = log.column(rule.column)
    told = replace(log.told, section=f"[labels.{name}]")
    if rule.one_of:
        kinds = ids(column)
        unknown = [kind for kind in rule.one_of if not (kinds == kind).any()]
        if unknown:
            seen = kinds.drop_nulls().unique().sort().head(1000).to_list()
            raise UserError(
                f"{log.paths[0]}: column {rule.column!r} never is {unknown[0]!r}, which "
                f"[labels.{name}] of the schema file names. "
                f"{nearest(unknown[0], seen[:30])}"
            )
        return kinds.is_in(list(rule.one_of)).cast(pl.Float64)
    if rule.kind == "value":
        return numbers(column, told, log.decimal)
    if rule.at_least is not None:
        return (numbers(column, told, log.decimal) >= rule.at_least).cast(pl.Float64)
    if rule.above is not None:
        return (numbers(column, told, log.decimal) > rule.above).cast(pl.Float64)
    return flags(column, told)


def _parts(log: _Section, name: str) -> pl.Series:
    column = ids(log.column(name))
    codes = {**PARTS, "0": 0, "1": 1, "2": 2}
    low = column.str.to_lowercase()
    parts = low.replace_strict(codes, default=None, return_dtype=pl.Int64)
    log.told.refuse(column, parts.is_null(), "train, valid or test (or 0, 1, 2)", "mend the file")
    return parts


def _item_columns(layout: Layout) -> list[str]:
    items = layout.items
    return [
        *items.text,
        *filter(None, (items.category, items.tags)),
        *items.categorical,
        *items.dense,
    ]


def _item_table(section: _Section, item: pl.Series, layout: Layout) -> pl.DataFrame:
    spec = layout.items
    columns = {"item": item.alias("item")}
    for name in spec.text:
        raw = texts(section.rows.frame[name])
        columns[as_name(name)] = without_html(raw) if spec.html else raw
    for name in filter(None, (spec.category, *spec.categorical)):
        if as_name(name) not in columns and name != spec.tags:
            plain = ids(section.column(name))
            columns[as_name(name)] = without_html(plain) if spec.html else plain
    if spec.tags:
        tags = _tags(section, spec.tags, spec.tags_separator)
        columns[as_name(spec.tags)] = tags
        if spec.category == spec.tags:
            columns[_category(spec)] = tags.list.first()
    for name in spec.dense:
        columns[as_name(name)] = section.numbers(name)
    frame = _once(columns, "item", log=not spec.files)
    if not spec.text:
        return frame
    template = spec.template or ". ".join(f"{{{as_name(name)}}}" for name in spec.text)
    rendered = pl.Series(TEXT, render(template, frame.drop("item")), dtype=pl.String)
    return frame.with_columns(rendered)


def _category(spec: Items) -> str:
    """The main category's column, "" if none; where the tags are named for it, the first."""
    if not spec.category:
        return ""
    name = as_name(spec.category)
    return f"first_{name}" if spec.category == spec.tags else name


def _tags(section: _Section, name: str, separator: str) -> pl.Series:
    column = section.rows.frame[name]
    if not isinstance(column.dtype, pl.List):
        column = texts(section.column(name)).str.split(separator)
    parts = column.cast(pl.List(pl.String)).fill_null([])
    stripped = parts.list.eval(pl.element().str.strip_chars())
    return stripped.list.eval(pl.element().filter(~pl.element().is_in(["", *section.missing])))


def _user_table(section: _Section, user: pl.Series, layout: Layout) -> pl.DataFrame:
    spec = layout.users
    columns = {"user": user.alias("user")}
    for name in spec.categorical:
        columns[as_name(name)] = ids(section.column(name))
    for name in spec.dense:
        columns[as_name(name)] = section.numbers(name)
    return _once(columns, "user", log=not spec.files)


def _once(columns: dict[str, pl.Series], key: str, log: bool) -> pl.DataFrame:
    """One row per id where columns stand in the log: of each column the first value there is."""
    frame = pl.DataFrame({name: column.alias(name) for name, column in columns.items()})
    if not log:
        return frame
    frame = frame.filter(pl.col(key).is_not_null() & (pl.col(key) != ""))
    if frame[key].is_unique().all():
        return frame
    first = pl.all().exclude(key).drop_nulls().first()
    return frame.group_by(key, maintain_order=True).agg(first)


def _columns(layout: Layout) -> Columns:
    items, users, events = layout.items, layout.users, layout.events
    contexts = [as_name(name) for name in events.context]
    return Columns(
        labels=tuple(
            Label(name, rule.kind, rule.low, rule.high) for name, rule in layout.labels.items()
        ),
        positive=events.positive
        or next(name for name, rule in layout.labels.items() if rule.kind == "binary"),
        item_text=tuple(as_name(name) for name in items.text),
        item_category=_category(items),
        item_tags=as_name(items.tags) if items.tags else "",
        item_categorical=tuple(as_name(name) for name in items.categorical),
        item_dense=tuple(as_name(name) for name in items.dense),
        user_categorical=tuple(as_name(name) for name in users.categorical),
        user_dense=tuple(as_name(name) for name in users.dense),
        context=(*contexts, SCENARIO) if events.scenario else tuple(contexts),
    )
