"""What training rows may see of codes that are not their own: of the items of their histories.

The modes are those of `mtl_jax.data.statistics`; there a row asks for its own user and item only,
here for any code. One label is summed.
"""

from typing import Protocol

import numpy as np

from mtl_jax.data.sums import SCALE, Counted, Table


class Asked(Protocol):
    """Sums of one label, for pairs of a code and the row that asks."""

    def at(self, codes: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([n] rows that have the label, [n] float64 sum of its values); 0 for code 0."""


class FoldAsked:
    """All rows but those of the asking row's fold."""

    def __init__(self, codes: np.ndarray, rows: Counted, fold: np.ndarray, folds: int) -> None:
        """codes, fold: [N]; codes * folds must fit into int64."""
        self._all, self._fold, self._folds = Table.fit(codes, rows), fold, folds
        self._own = Table.fit(np.where(codes > 0, codes * folds + fold, 0), rows)

    def at(self, codes: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count, total = self._all.at(codes).label(0)
        asked = np.where(codes > 0, codes * self._folds + self._fold[row], 0)
        own_count, own_total = self._own.at(asked).label(0)
        return count - own_count, total - own_total


class CausalAsked:
    """Rows strictly before the asking row's time."""

    def __init__(self, codes: np.ndarray, rows: Counted) -> None:
        """codes: [N] in time order; codes * seconds of the log must fit into int64."""
        self._low = int(rows.time.min(initial=0))
        self._span = int(rows.time.max(initial=0)) - self._low + 1
        self._time = rows.time
        order = np.argsort(codes, kind="stable")
        self._keys = codes[order].astype(np.int64) * self._span + (rows.time[order] - self._low)
        self._count = np.concatenate([[0], np.cumsum(rows.present[0][order], dtype=np.int64)])
        self._total = np.concatenate([[0], np.cumsum(rows.value[0][order], dtype=np.int64)])

    def at(self, codes: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.searchsorted(self._keys, codes.astype(np.int64) * self._span)
        moment = codes.astype(np.int64) * self._span + (self._time[row] - self._low)
        last = np.where(codes > 0, np.searchsorted(self._keys, moment), first)
        return (
            self._count[last] - self._count[first],
            (self._total[last] - self._total[first]) / SCALE,
        )


class FrozenAsked:
    """All training rows, whoever asks."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def at(self, codes: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._table.at(codes).label(0)
