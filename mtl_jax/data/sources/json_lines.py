"""JSON lines, or a JSON list of objects, as columns; "user.id" is id inside user."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.delimited import require_columns


def json_table(
    path: Path, text: str, names: Sequence[str] | None, cut: bool = False
) -> tuple[pl.DataFrame, list[str]]:
    """(columns of JSON lines or of a JSON list of objects, their names); "a.b" is b inside a.

    Args:
        cut: the last line may be incomplete.

    Raises:
        UserError: a line that is no JSON object, or a column that no line has.
    """
    objects = list(_objects(path, text, cut))
    if names is None:
        names = list(dict.fromkeys(key for one in objects for key in _keys(one)))
    columns = {}
    for name in dict.fromkeys(names):
        values = [_at(one, name) for one in objects]
        if all(value is None for value in values) and not any(_has(o, name) for o in objects):
            known = dict.fromkeys(key for one in objects[:1000] for key in _keys(one))
            require_columns(path, list(known), [name])
        columns[name] = series(name, values)
    return pl.DataFrame(columns), list(names)


def _objects(path: Path, text: str, cut: bool) -> Iterator[dict[str, Any]]:
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith("["):
        try:
            whole = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path}: no JSON list: {error}") from None
        lines: Iterator[tuple[int, Any]] = iter(enumerate(whole, 1))
    else:
        lines = _parsed(path, text.split("\n"), cut)
    for number, value in lines:
        if not isinstance(value, dict):
            raise UserError(f"{path}, line {number}: {str(value)[:40]!r} is no JSON object")
        yield value


def _parsed(path: Path, lines: list[str], cut: bool) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            if cut and number == len(lines):
                return
            raise UserError(f"{path}, line {number}: no JSON: {error}") from None


def _keys(value: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _keys(inner, f"{before}{key}.")
        else:
            yield before + key


def _at(value: Any, name: str) -> Any:
    """The value at "a.b", or at a key that has a point in it; None where there is none."""
    while isinstance(value, dict):
        if name in value:
            return value[name]
        first, _, name = name.partition(".")
        value = value.get(first)
    return None


def _has(value: Any, name: str) -> bool:
    while isinstance(value, dict):
        if name in value:
            return True
        first, _, name = name.partition(".")
        value = value.get(first)
    return False


def series(name: str, values: list[Any]) -> pl.Series:
    """Python values as a column: of one type where they have one, else as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str} or not kinds:
        return pl.Series(name, values, dtype=pl.String)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {list}:
        lists = [None if v is None else [_text(x) for x in v if x is not None] for v in values]
        return pl.Series(name, lists, dtype=pl.List(pl.String))
    if kinds == {int} and all(v is None or abs(v) < 2**63 for v in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float} and kinds != {int}:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    return pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_line(text: str, row: int) -> int:
    """The line of row `row` of JSON lines, 0 in a JSON list."""
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        return 0
    lines = (n for n, line in enumerate(text.split("\n"), 1) if line.strip())
    return next(n for i, n in enumerate(lines) if i == row)
