"""What a user had liked before each row, and what the user likes next.

A row's history is `pool[start:stop]`, oldest first: the user's positive events strictly before
the row's time. Events of the same second are excluded, in whatever order they lie in the source.

Type codes (`history/type.npy`, int8; 0 is padding): 1 + level * 2**n + bits, where bits are the
further binary labels of the event (the first `MAX_BITS` of them, in the order of the source's
labels; missing counts as 0), n is their number, and level is the first value label that has a
range, in `LEVELS` equal steps over it (1 lowest), 0 = missing. The positive label is among the bits
only where histories hold all events (`DataConfig.history = "all"`). Value labels that no code tells
of are read from the entry's own event (`history/row.npy`, -1 where the log does not have it).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtl_jax.data.schema import Columns, Label, Schema

MAX_BITS = 3
LEVELS = 5
NEXT_ITEMS = 5
_CHUNK = 500_000  # rows looked up at once


@dataclass(frozen=True)
class Histories:
    """A pool of events and each row's slice of it.

    item [P] int32, type [P] int8, time [P] int64 (unix seconds, 0 = unknown);
    row [P] int64: which of the events the entry is, -1 = not known;
    start, stop [N] int64.
    late: entries of given histories that were dropped, being not before their row's time.
    """

    item: np.ndarray
    type: np.ndarray
    time: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    late: int = 0


@dataclass(frozen=True)
class EventColumns:
    """What this module needs of the events, sorted by (time, source row).

    user, item [N] int32 (0 = unknown), time [N] int64, type [N] int8,
    positive [N] bool: enters histories. Rows without a user or item are never positive here.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    type: np.ndarray
    positive: np.ndarray


def _coded(columns: Columns | Schema, everything: bool) -> tuple[list[Label], Label | None]:
    left_out = "" if everything else columns.positive
    bits = [v for v in columns.labels if v.kind == "binary" and v.name != left_out]
    ranged = [v for v in columns.labels if v.kind == "value" and None not in (v.low, v.high)]
    return bits[:MAX_BITS], ranged[0] if ranged else None


def history_types(columns: Columns, everything: bool = False) -> int:
    """The number of type codes, padding included."""
    bits, ranged = _coded(columns, everything)
    return 1 + (LEVELS + 1 if ranged else 1) * 2 ** len(bits)


def value_names(columns: Columns | Schema, everything: bool = False) -> tuple[str, ...]:
    """Value labels of which type codes tell nothing."""
    ranged = _coded(columns, everything)[1]
    return tuple(v.name for v in columns.labels if v.kind == "value" and v != ranged)


def type_codes(
    columns: Columns | Schema, labels: Mapping[str, np.ndarray], everything: bool = False
) -> np.ndarray:
    """[N] int8 codes from labels of [N] float, NaN = missing."""
    bits, ranged = _coded(columns, everything)
    code = np.ones(len(labels[columns.positive]), np.int64)
    for place, label in enumerate(bits):
        code += (labels[label.name] == 1).astype(np.int64) << place
    if ranged is not None and ranged.low is not None and ranged.high is not None:
        value = labels[ranged.name]
        step = (np.nan_to_num(value, nan=ranged.low) - ranged.low) / (ranged.high - ranged.low)
        level = np.minimum((step * LEVELS).astype(np.int64), LEVELS - 1) + 1
        code += np.where(np.isnan(value), 0, level) << len(bits)
    return code.astype(np.int8)


def own_histories(events: EventColumns, earlier: EventColumns | None = None) -> Histories:
    """Histories from the log itself, and from events that are not in it but known as well."""
    pool = _by_user(events, events.positive)
    user, item, kind, time = (
        column[pool] for column in (events.user, events.item, events.type, events.time)
    )
    if earlier is not None:
        kept = _by_user(earlier, earlier.positive)
        user, item = np.append(earlier.user[kept], user), np.append(earlier.item[kept], item)
        kind, time = np.append(earlier.type[kept], kind), np.append(earlier.time[kept], time)
        pool = np.append(np.full(len(kept), -1), pool)
        order = np.lexsort((time, user))
        user, item, kind, time, pool = (v[order] for v in (user, item, kind, time, pool))
    low = int(min(time.min(initial=0), events.time.min(initial=0)))
    span = int(max(time.max(initial=0), events.time.max(initial=0))) - low + 1
    keys, wanted = (
        u.astype(np.int64) * span + (t - low) for u, t in ((user, time), (events.user, events.time))
    )
    starts = np.searchsorted(user, events.user, side="left")
    stops = np.searchsorted(keys, wanted, side="left")
    return Histories(item, kind, time, pool, starts, np.maximum(starts, stops))


def given_histories(
    events: EventColumns, item: np.ndarray, lengths: np.ndarray, time: np.ndarray | None
) -> Histories:
    """Histories that the source gives, all rows' entries one after the other.

    Entries known to lie at or after their row's time are dropped, entries of unknown items (0)
    too. Without given times, an entry's time and type are those of the user's latest event with
    that item before the row. If the log has such events only at the row's time or after it, the
    entry is dropped; so where users meet items repeatedly, a source must give `history_time`.

    Args:
        item: [E] int32.  lengths: [N] entries of each row.  time: [E] int64, 0 = unknown.
    """
    row = np.repeat(np.arange(len(lengths)), lengths)
    types = np.ones(len(item), np.int8)
    source = np.full(len(item), -1)
    if time is None:
        source, late = _found_in_log(events, row, item)
        time = np.where(source >= 0, events.time[source], 0)
        types = np.where(source >= 0, events.type[source], 1).astype(np.int8)
    else:
        late = time >= events.time[row]
    keep = ~late & (item > 0)
    stop = np.cumsum(np.bincount(row[keep], minlength=len(lengths)))
    start = np.concatenate([[0], stop[:-1]])
    return Histories(
        item[keep].astype(np.int32),
        types[keep],
        time[keep].astype(np.int64),
        source[keep],
        start.astype(np.int64),
        stop.astype(np.int64),
        late=int(late.sum()),
    )


def next_items(events: EventColumns, part: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The user's next positive items, [N, NEXT_ITEMS] int32, 0 = none; a label, never an input.

    Strictly after the row's time. A training row sees training rows only; a valid row its own
    part and test; a test row test rows.

    Args:
        part: [N] 0/1/2.  usable: [N] bool, rows that may be such a target.
    """
    found = np.zeros((len(part), NEXT_ITEMS), np.int32)
    for code in (0, 1, 2):
        mine = np.flatnonzero(part == code)
        seen = part == 0 if code == 0 else part >= code
        pool = _by_user(events, events.positive & usable & seen)
        if not len(mine) or not len(pool):
            continue
        keys = _keys(events, pool)
        for rows in np.split(mine, np.arange(_CHUNK, len(mine), _CHUNK)):
            first = np.searchsorted(keys, _keys(events, rows), side="right")
            at = first[:, None] + np.arange(NEXT_ITEMS)
            there = pool[np.minimum(at, len(pool) - 1)]
            same = (at < len(pool)) & (events.user[there] == events.user[rows][:, None])
            same &= (events.user[rows] > 0)[:, None]
            found[rows] = np.where(same, events.item[there], 0)
    return found


def _by_user(events: EventColumns, chosen: np.ndarray) -> np.ndarray:
    """Rows of the pool, by (user, time, source row)."""
    rows = np.flatnonzero(chosen & (events.user > 0) & (events.item > 0))
    return rows[np.argsort(events.user[rows], kind="stable")]


def _keys(events: EventColumns, rows: np.ndarray) -> np.ndarray:
    """(user, time) as one int64, in the order of the pair."""
    low = int(events.time.min(initial=0))
    span = int(events.time.max(initial=0)) - low + 1
    return events.user[rows].astype(np.int64) * span + (events.time[rows] - low)


def _found_in_log(
    events: EventColumns, row: np.ndarray, item: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The user's latest event with the item before the row, -1 for none; and what is late."""
    n_items = int(max(events.item.max(initial=0), item.max(initial=0))) + 1
    log = events.user.astype(np.int64) * n_items + events.item
    pairs, ranks = np.unique(log, return_inverse=True)
    wanted = events.user[row].astype(np.int64) * n_items + item
    rank = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    known = (pairs[rank] == wanted) & (item > 0) & (events.user[row] > 0)
    low = int(events.time.min(initial=0))
    span = int(events.time.max(initial=0)) - low + 1
    order = np.lexsort((events.time, ranks))
    keys = ranks[order] * span + (events.time[order] - low)
    at = np.searchsorted(keys, rank * span + (events.time[row] - low), side="left") - 1
    source = order[np.maximum(at, 0)]
    before = known & (at >= 0) & (ranks[source] == rank)
    return np.where(before, source, -1), known & ~before
