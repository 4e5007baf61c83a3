"""From rows to a batch: distinct items once, indices into them, static shapes. numpy only.

A batch is a flat dict. Per-row arrays are [A, S, B]: A accumulation slices, S data shards, B rows
of a shard. Every shard has an item table of U rows, row 0 the padding item, holding each item of
its rows (targets, histories, candidates) once. `uniq/<table>` [S, R / S] are the distinct rows of
an embedding table over the whole batch, padded with the table's length.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray

HOUR, DAY, WEEK, YEAR = 3600, 86400, 604800, 31557600  # seconds
MONDAY = 3 * DAY  # 1970-01-01 was a Thursday


@dataclass(frozen=True)
class BatchConfig:
    """How batches are cut.

    size: rows of one optimiser step, over all shards and accumulation slices.
    history: H, the last events of the user's history that a row sees.
    negatives: candidates of retrieval tasks beside the batch's own positives: their number, drawn
        uniformly from trained items, or -1 for every trained item (a full softmax, no draw).
    accumulate: A, slices whose gradients are summed in one step.
    shards: S; 0 takes the devices of the mesh's data x fsdp.
    workers: threads that build batches ahead.
    """

    size: int = 512
    history: int = 30
    negatives: int = 0
    accumulate: int = 1
    shards: int = 0
    workers: int = 1

    def rows_per_shard(self) -> int:
        """B; UserError where the sizes do not divide."""
        parts = self.accumulate * max(self.shards, 1)
        if self.size % parts:
            raise UserError(
                f"batch.size={self.size} is not a multiple of accumulate x shards = "
                f"{self.accumulate} x {max(self.shards, 1)}"
            )
        return self.size // parts


@dataclass(frozen=True)
class Rows:
    """n rows to be put into a batch, from prepared events or from a request.

    history, history_type [n, H] (most recent first, 0 = none), history_age [n, H] as log1p of the
    hours before the row; history_value [n, H, 2 V] of `Prepared.history_values`; stats [n, F]
    standardised; context name -> [n]; labels, masks task -> [n] or [n, C]; profile name -> [n]
    codes that stand in for the users' own; other [n]: an item to compare the row's own with;
    user_row [n]: rows of the users' table that stand in for the users' own.
    """

    user: HostArray
    item: HostArray
    time: HostArray
    history: HostArray
    history_type: HostArray
    history_age: HostArray
    history_value: HostArray
    stats: HostArray
    context: Mapping[str, HostArray]
    labels: Mapping[str, HostArray] = field(default_factory=dict)
    masks: Mapping[str, HostArray] = field(default_factory=dict)
    profile: Mapping[str, HostArray] = field(default_factory=dict)
    other: HostArray | None = None
    user_row: HostArray | None = None

    def take(self, index: HostArray) -> "Rows":
        """The rows `index` [m] of these."""

        def cut(values: Any) -> Any:
            if isinstance(values, Mapping):
                return {k: v[index] for k, v in values.items()}
            return None if values is None else values[index]

        return Rows(**{f.name: cut(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Shape:
    """Static sizes of a batch: U of item tables, R of distinct users, items; P packed text rows."""

    table: int
    users: int
    items: int
    packed: int = 0

    def holds(self, other: "Shape") -> bool:
        """True if `other` fits into this shape."""
        return (
            self.table >= other.table
            and self.users >= other.users
            and self.items >= other.items
            and self.packed >= other.packed
        )


def item_tables(
    rows: Rows, candidates: list[HostArray], slices: int, shards: int
) -> tuple[list[HostArray], HostArray]:
    """Per (slice, shard) the distinct items, 0 first; and their number.

    candidates: one array of item ids per (slice, shard), slice-major.
    """
    tables = []
    parts = slices * shards
    named = [rows.item, rows.history] + ([] if rows.other is None else [rows.other])
    split = [ids.reshape(parts, -1) for ids in named]
    for p in range(parts):
        zero = np.zeros(1, np.int32)
        every = [zero, *(ids[p] for ids in split), candidates[p]]
        tables.append(distinct(np.concatenate(every)))
    return tables, np.array([len(t) for t in tables])


LOOK_UP = 12  # up to so many possible ids a value a table of all of them is faster than sorting


def distinct(ids: HostArray) -> HostArray:
    """Sorted distinct ones of at least one int32 id from 0 on, by marks where few are possible."""
    last = int(ids.max())
    if last > LOOK_UP * ids.size:
        ascending = np.sort(ids, axis=None)
        return ascending[_first(ascending)]
    seen = np.zeros(last + 1, bool)
    seen[ids.reshape(-1)] = True
    return np.flatnonzero(seen).astype(ids.dtype)


def local(table: HostArray, ids: HostArray) -> HostArray:
    """Positions of `ids`, int32 from 0 on, in the sorted `table`, which holds each of them."""
    last = int(table[-1])
    if last <= 2 * LOOK_UP * ids.size:
        at = np.empty(last + 1, np.int32)
        at[table] = np.arange(len(table), dtype=np.int32)
        return at[ids]
    # Ids and where they stand, sorted as one number: each distinct id is searched once, in order.
    keys = (ids.astype(np.int64) << 32).reshape(-1)
    keys |= np.arange(keys.size)
    keys.sort()
    ascending = (keys >> 32).astype(table.dtype)
    first = _first(ascending)
    at = np.searchsorted(table, ascending[first]).astype(np.int32)
    found = np.empty(keys.size, np.int32)
    found[keys.astype(np.int32)] = at[np.cumsum(first, dtype=np.int32) - 1]
    return found.reshape(ids.shape)


def _first(ascending: HostArray) -> HostArray:
    """Whether a value differs from the one before it."""
    found = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=found[1:])
    return found


def padded(values: HostArray, length: int, fill: int | HostArray) -> HostArray:
    """`values` [n] int32 filled up to `length`; UserError where they do not fit."""
    if len(values) > length:
        raise UserError(f"{len(values)} distinct rows do not fit the planned {length}")
    out = np.empty(length, np.int32)
    out[:] = fill
    out[: len(values)] = values
    return out


def padded_rows(distinct: HostArray, length: int, table: int) -> HostArray:
    """Distinct rows of a table of `table` rows, padded with distinct rows beyond its end."""
    return padded(distinct, length, table + np.arange(length))


def time_features(time: HostArray) -> dict[str, HostArray]:
    """Hour of the week from Monday 00:00 UTC and hour of the year, float32, same shape."""
    return {
        "ctx/hour_of_week": (((time + MONDAY) % WEEK) / HOUR).astype(np.float32),
        "ctx/hour_of_year": ((time % YEAR) / HOUR).astype(np.float32),
    }
