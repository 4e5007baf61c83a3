"""Whether a source's tables have the columns and types that they promise."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.schema import RawData


def check_tables(raw: RawData) -> RawData:
    """The same tables with exact types: ids and categories str, time int64, labels float64.

    Raises:
        UserError: an empty table, a missing column, or a value of the wrong type, with its row.
    """
    columns = raw.columns
    labels = tuple(label.name for label in columns.labels)
    if columns.positive not in {v.name for v in columns.labels if v.kind == "binary"}:
        raise UserError(
            f"{raw.name}: the positive label {columns.positive!r} is not one of the binary labels "
            f"{[v.name for v in columns.labels if v.kind == 'binary']}"
        )
    events = _typed(
        f"{raw.name}: events",
        raw.events,
        strings=("user", "item", *columns.context),
        floats=labels,
        integers=("time",),
    )
    if "split" in events.columns:
        events = _typed(f"{raw.name}: events", events, integers=("split",))
        _require_parts(raw.name, events)
    if "other" in events.columns:
        events = _typed(f"{raw.name}: events", events, strings=("other",))
    if "history" in events.columns:
        events = events.with_columns(pl.col("history").cast(pl.List(pl.String)))
    category = (columns.item_category,) if columns.item_category else ()
    tags = (columns.item_tags,) if columns.item_tags else ()
    items = _typed(
        f"{raw.name}: items",
        raw.items,
        strings=("item", *columns.item_text, *category, *columns.item_categorical),
        floats=columns.item_dense,
        present=tags,
    )
    if tags and not isinstance(items.schema[columns.item_tags], pl.List):
        raise UserError(
            f"{raw.name}: items: column {columns.item_tags!r} holds tags and must be a list of "
            f"strings, not {items.schema[columns.item_tags]}: split it in the source's loader"
        )
    users = _typed(
        f"{raw.name}: users",
        raw.users,
        strings=("user", *columns.user_categorical),
        floats=columns.user_dense,
        may_be_empty=True,
    )
    earlier = raw.earlier
    if earlier is not None:
        earlier = _typed(
            f"{raw.name}: earlier",
            earlier,
            strings=("user", "item"),
            floats=labels,
            integers=("time",),
            may_be_empty=True,
        )
    return replace(raw, events=events, items=items, users=users, earlier=earlier)


def _typed(
    where: str,
    frame: pl.DataFrame,
    strings: Sequence[str] = (),
    floats: Sequence[str] = (),
    integers: Sequence[str] = (),
    present: Sequence[str] = (),
    may_be_empty: bool = False,
) -> pl.DataFrame:
    wanted = [*strings, *floats, *integers, *present]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise UserError(
            f"{where}: column {missing[0]!r} is missing; there are {sorted(frame.columns)}"
        )
    if frame.height == 0 and not may_be_empty:
        raise UserError(f"{where}: the table is empty (no rows); check the raw file")
    types: list[tuple[Sequence[str], type[pl.DataType], str]] = [
        (strings, pl.String, "text"),
        (floats, pl.Float64, "a number"),
        (integers, pl.Int64, "a whole number"),
    ]
    for names, dtype, what in types:
        for name in dict.fromkeys(names):
            frame = frame.with_columns(_cast(where, frame[name], dtype, what))
    return frame


def _cast(where: str, column: pl.Series, dtype: type[pl.DataType], what: str) -> pl.Series:
    """The column in `dtype`; UserError naming the first row whose value cannot be read as it."""
    if column.dtype == dtype:
        return column
    if dtype == pl.Int64 and column.dtype == pl.String:
        # "12.7" must not become 12, and "12.0" is what a CSV writer makes of a nullable integer.
        column = _cast(where, column, pl.Float64, what)
    try:
        cast = column.cast(dtype, strict=False)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{where}: column {column.name!r}: {error}; it must be {what}") from error
    wrong = cast.is_null() & column.is_not_null()
    if dtype == pl.Int64 and column.dtype.is_float():
        wrong |= (cast.cast(pl.Float64) != column).fill_null(False)
    if wrong.any():
        row = wrong.arg_max() or 0
        raise UserError(
            f"{where}: column {column.name!r}, row {row + 1} (the first is 1): "
            f"{column[row]!r} is not {what}"
        )
    return cast


def _require_parts(name: str, events: pl.DataFrame) -> None:
    wrong = ~events["split"].is_in([0, 1, 2]).fill_null(False)
    if wrong.any():
        row = wrong.arg_max() or 0
        raise UserError(
            f"{name}: events: column 'split', row {row + 1} (the first is 1): "
            f"{events['split'][row]!r} is not 0 (train), 1 (valid) or 2 (test)"
        )
