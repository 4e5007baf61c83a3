"""Counting rows by key: before each row, out of fold, or once and for all.

Label values are whole numbers (`fixed_point`), so that sums are exact: no label can move another
row's statistics by a rounding, and cumulative sums may be subtracted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mtl_jax.core.errors import UserError

NEVER = -1  # "no such event" in columns of times
SCALE = 2**20


class Times(NamedTuple):
    """[n] int64 unix seconds of a key's last event, last positive and first event, or NEVER."""

    last: np.ndarray
    last_positive: np.ndarray
    first: np.ndarray


class Sums(Protocol):
    """What has been counted for each of n codes."""

    def events(self) -> np.ndarray:
        """[n] number of rows."""

    def label(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """[n] rows that have the label, [n] float64 sum of its values."""

    def times(self) -> Times:
        """When the key was seen."""


@dataclass(frozen=True)
class Counted:
    """The rows that are counted, sorted by time.

    time [N] int64; positive [N] bool; present: per label [N] bool; value: per label [N] in fixed
    point (int32 where that holds it), 0 where missing.
    """

    time: np.ndarray
    positive: np.ndarray
    present: Sequence[np.ndarray]
    value: Sequence[np.ndarray]

    def take(self, rows: np.ndarray) -> "Counted":
        """Those rows, possibly repeated."""
        return Counted(
            self.time[rows],
            self.positive[rows],
            [column[rows] for column in self.present],
            [column[rows] for column in self.value],
        )


def fixed_point(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A label of [N] float (NaN = missing) as ([N] bool present, [N] whole value * 2**20).

    Raises:
        UserError: values so large that their sum would overflow.
    """
    present = ~np.isnan(values)
    filled = np.where(present, values, 0).astype(np.float64)
    largest = np.abs(filled).max(initial=0) * SCALE
    if len(filled) * largest >= 2**62:
        raise UserError(
            f"label {name!r} reaches {largest / SCALE:g}: too large to be summed exactly "
            "over the training rows; give its logarithm or another unit"
        )
    np.rint(np.multiply(filled, SCALE, out=filled), out=filled)
    return present, filled.astype(np.int32 if largest < 2**31 - 1 else np.int64)


def _index_type(n: int) -> type[np.signedinteger[Any]]:
    """The narrowest type of places in n rows: what is kept for each row adds up."""
    return np.int32 if n < 2**31 else np.int64


class CausalSums:
    """For every row, what was counted strictly before its time under its own code."""

    def __init__(self, codes: np.ndarray, rows: Counted) -> None:
        """codes: [N] int64, N >= 1, in time order; a row of code 0 sees nothing."""
        self._rows = rows
        self._codes = codes
        self._order = np.argsort(codes, kind="stable").astype(_index_type(len(codes)))
        code, time = codes[self._order], rows.time[self._order]
        place = np.arange(len(codes), dtype=self._order.dtype)
        fresh = np.concatenate([[True], code[1:] != code[:-1]])
        later = fresh | np.concatenate([[True], time[1:] != time[:-1]])
        self._group = np.maximum.accumulate(np.where(fresh, place, 0))
        # Rows of one code and one second start together: none of them sees another.
        self._run = np.maximum.accumulate(np.where(later, place, 0))

    def _unsorted(self, values: np.ndarray, absent: int) -> np.ndarray:
        result = np.empty(len(values), values.dtype)
        result[self._order] = values
        result[self._codes == 0] = absent
        return result

    def _before(self, values: np.ndarray) -> np.ndarray:
        running = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values[self._order], out=running[1:])
        return self._unsorted(running[self._run] - running[self._group], 0)

    def events(self) -> np.ndarray:
        return self._unsorted(self._run - self._group, 0)

    def label(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        total = self._before(self._rows.value[index])
        return self._before(self._rows.present[index]), total / SCALE

    def times(self) -> Times:
        time = self._rows.time[self._order]
        previous = np.maximum(self._run - 1, 0)
        seen = self._run > self._group
        place = np.arange(len(time))
        positive = np.where(self._rows.positive[self._order], place, -1)
        last_positive = np.maximum.accumulate(positive)[previous]
        liked = seen & (last_positive >= self._group)
        return Times(
            self._unsorted(np.where(seen, time[previous], NEVER), NEVER),
            self._unsorted(np.where(liked, time[last_positive], NEVER), NEVER),
            self._unsorted(np.where(seen, time[self._group], NEVER), NEVER),
        )


@dataclass(frozen=True)
class Table:
    """What was counted for each code, over all rows; `data` is [5 + 2 labels, G] int64.

    Rows of `data`: code (ascending), events, last, last positive, first, then for each label the
    rows that have it, then for each label the sum of its values in fixed point.
    """

    data: np.ndarray
    labels: int

    @classmethod
    def fit(cls, codes: np.ndarray, rows: Counted) -> "Table":
        """Counts [N] codes; code 0 is not counted."""
        order = np.flatnonzero(codes > 0)
        order = order[np.argsort(codes[order], kind="stable")]
        code = codes[order]
        starts = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]]))[: len(code)]
        if not len(code):
            return cls(np.zeros((5 + 2 * len(rows.value), 0), np.int64), len(rows.value))
        ends = np.append(starts[1:], len(code)) - 1
        liked = np.where(rows.positive, rows.time, NEVER)
        columns = [
            code[starts],
            ends - starts + 1,
            rows.time[order[ends]],
            np.maximum.reduceat(liked[order], starts),
            rows.time[order[starts]],
        ]
        del code, liked  # columns are as long as the log: one at a time
        counted = [*rows.present, *rows.value]
        sums = [np.add.reduceat(column[order], starts, dtype=np.int64) for column in counted]
        return cls(np.stack([*columns, *sums]).astype(np.int64), len(rows.value))

    def at(self, codes: np.ndarray) -> "TableSums":
        """What is known of [n] codes; nothing for code 0 and codes never seen."""
        known = self.data[0]
        if not len(known):
            return TableSums(self, np.zeros(len(codes), np.int64), np.zeros(len(codes), bool))
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return TableSums(self, place, known[place] == codes)


@dataclass(frozen=True)
class TableSums:
    """A table's columns at some codes: place [n], found [n] bool."""

    table: Table
    place: np.ndarray
    found: np.ndarray

    def _column(self, row: int, absent: int) -> np.ndarray:
        if not self.table.data.shape[1]:
            return np.full(len(self.place), absent, np.int64)
        return np.where(self.found, self.table.data[row][self.place], absent)

    def events(self) -> np.ndarray:
        return self._column(1, 0)

    def label(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        total = self._column(5 + self.table.labels + index, 0)
        return self._column(5 + index, 0), total / SCALE

    def times(self) -> Times:
        return Times(self._column(2, NEVER), self._column(3, NEVER), self._column(4, NEVER))


class OutOfFoldSums:
    """For every row, what was counted in the other folds; its times are causal all the same."""

    def __init__(self, codes: np.ndarray, rows: Counted, fold: np.ndarray, folds: int) -> None:
        """codes, fold: [N], fold in [0, folds)."""
        self._all = Table.fit(codes, rows).at(codes)
        # Places instead of codes: times the number of folds, these cannot overflow.
        own = np.where(codes > 0, (self._all.place + 1) * folds + fold, 0)
        self._own = Table.fit(own, rows).at(own)
        self._causal = CausalSums(codes, rows)

    def events(self) -> np.ndarray:
        return self._all.events() - self._own.events()

    def label(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        (count, total), (own_count, own_total) = self._all.label(index), self._own.label(index)
        return count - own_count, total - own_total

    def times(self) -> Times:
        return self._causal.times()
