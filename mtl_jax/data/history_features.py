"""The row's history as numbers, and compared with the row's item.

Pooling a sequence erases counts, and attention over it must learn from few rows what is plain to
say: how good were the items the user liked, when, and how many of them are like this one. Only
entries of the row's own history are read, which lie strictly before it.

    history.log_count, .none       log(1 + entries); 1 if there are none
    history.rate, .rate_last_5     mean smoothed log-odds of the entries, `item.<label>.rate`
    history.age, .age_5th          log(1 + minutes) since the last entry and the fifth last
    history.log_count_<span>       log(1 + entries of the last 10 minutes, hour, day, 30 days)
    history.<dense>                mean of a numeric item column, standardised
    history*<column>.log_ratio     mean over the item's values v of log(share of v among the
                                   entries / base share of v), drawn with PSEUDO entries to 0
    history*<column>.log_matches   log(1 + entries that share a value with the item)
    history*<column>.recent        mean cosine of the entries' values with the item's, an entry's
                                   weight halved every HALF_LIFE entries
    history*<dense>.distance, .near   mean difference to the item, at most FAR, in standard
                                   deviations; share of entries nearer than NEAR

<column> is the main category, the tags and every further item column. The base share is that of
the training rows' items. The rate of a liked item is what the row may see of that item (see
`mtl_jax.data.statistics`): a training row never counts itself. Only the latest `history_last`
entries are read; `log_count` counts all. Entries without a time have no age.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mtl_jax.data.asked import Asked, CausalAsked, FoldAsked, FrozenAsked
from mtl_jax.data.features import logit, prior
from mtl_jax.data.keys import Attributes
from mtl_jax.data.schema import Label, StatisticColumn
from mtl_jax.data.statistics import Rows, Statistics, folds_of
from mtl_jax.data.statistics_store import load_array
from mtl_jax.data.sums import Counted, Table, fixed_point

SPANS = {"10m": 600, "1h": 3600, "1d": 86_400, "30d": 30 * 86_400}  # seconds
PSEUDO, HALF_LIFE, FAR, NEAR = 10.0, 5.0, 3.0, 0.25
LONG_AGO = 365 * 86_400  # seconds, stands for "never"
_PAIRS = 400_000  # (row, entry) pairs worked on at once


@dataclass(frozen=True)
class Entries:
    """Histories of n rows: row i's is item[start[i]:stop[i]], oldest first.

    item [P] int32; time [P] int64, unix seconds, 0 = unknown; start, stop [n].
    """

    item: np.ndarray
    time: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def none(cls, n: int) -> "Entries":
        """n rows without a history."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, np.zeros(n, np.int64), np.zeros(n, np.int64))

    def take(self, rows: np.ndarray) -> "Entries":
        """Those rows."""
        return Entries(self.item, self.time, self.start[rows], self.stop[rows])


@dataclass(frozen=True)
class HistoryStatistics:
    """What the columns need of the training rows, frozen; made by `fit_history` or by `load`.

    statistics: where configuration and item columns come from.  table: of items, the positive
    label alone.  shares: per matched column, the base share of each code.
    """

    statistics: Statistics
    table: Table
    shares: tuple[np.ndarray, ...]

    @cached_property
    def columns(self) -> tuple[StatisticColumn, ...]:
        """Name and group of every feature, in order."""
        of_user = ["log_count", "none", "rate", "rate_last_5", "age", "age_5th"]
        of_user += [f"log_count_{span}" for span in SPANS]
        of_user += list(self._attributes.item_dense)
        crosses = [
            f"{name}.{what}"
            for name in matched_columns(self._attributes)
            for what in ("log_ratio", "log_matches", "recent")
        ]
        crosses += [
            f"{name}.{what}"
            for name in self._attributes.item_dense
            for what in ("distance", "near")
        ]
        return (
            *(StatisticColumn(f"history.{name}", "user") for name in of_user),
            *(StatisticColumn(f"history*{name}", "cross") for name in crosses),
        )

    @property
    def _attributes(self) -> Attributes:
        return self.statistics.attributes

    @property
    def _strength(self) -> float:
        config = self.statistics.config
        return dict(config.strengths).get("item", config.strength)

    def features(self, items: np.ndarray, now: np.ndarray, entries: Entries) -> np.ndarray:
        """What later rows and requests see, [n, F] float32.

        Args:
            items: [n] item ids the histories are compared with.  now: [n] unix seconds.
        """
        everything = Table(self.table.data.sum(1, keepdims=True), 1)
        everything.data[0] = 1
        return self._features(items, now, entries, FrozenAsked(self.table), FrozenAsked(everything))

    def training_features(self, rows: Rows, entries: Entries) -> np.ndarray:
        """What each of the training rows that were fitted may see, [N, F] float32."""
        counted = _counted(self.statistics, rows)
        everywhere = (rows.item > 0).astype(np.int64)
        config = self.statistics.config
        seen: list[Asked] = []
        for codes in (rows.item.astype(np.int64), everywhere):
            if config.train == "causal":
                seen.append(CausalAsked(codes, counted))
            else:
                fold, folds = folds_of(config, rows.time, rows.row)
                seen.append(FoldAsked(codes, counted, fold, folds))
        return self._features(rows.item, rows.time, entries, *seen)

    def _features(
        self, items: np.ndarray, now: np.ndarray, entries: Entries, seen: Asked, all_items: Asked
    ) -> np.ndarray:
        out = np.zeros((len(items), len(self.columns)), np.float32)
        first = np.maximum(
            entries.start, entries.stop - self.statistics.config.history_last
        ).astype(np.int64)
        for part in _chunks(entries.stop - first):
            pairs = _Pairs.of(
                items[part], now[part], first[part], entries.stop[part], entries.item, entries.time
            )
            asking = np.arange(part.start, part.stop)
            base = prior(
                _LABEL, *all_items.at(np.ones(len(asking), np.int64), asking), self._strength
            )
            present, total = seen.at(pairs.seen, asking[pairs.row])
            p, a = base[pairs.row], self._strength
            rate = logit((total + a * p) / (present + a)) - logit(p)
            count = (entries.stop - entries.start)[part]
            found = [*self._of_user(pairs, rate, count), *self._crosses(pairs)]
            out[part] = np.stack(found, 1)
        return out

    def _of_user(
        self, pairs: "_Pairs", rate: np.ndarray, count: np.ndarray
    ) -> Iterator[np.ndarray]:
        yield np.log1p(count)
        yield count == 0
        yield pairs.mean(rate)
        yield pairs.mean(rate, pairs.rank < 5)
        for rank in (0, 4):
            yield np.log1p(pairs.age_of(rank) / 60)
        for seconds in SPANS.values():
            recent = np.logical_and(pairs.dated, pairs.age < seconds)
            yield np.log1p(pairs.sum(recent))
        for values in self._attributes.item_dense.values():
            x = values[pairs.seen]
            yield pairs.mean(np.nan_to_num(x), np.isfinite(x))

    def _crosses(self, pairs: "_Pairs") -> Iterator[np.ndarray]:
        matched = matched_columns(self._attributes)
        weight = 0.5 ** (pairs.rank / HALF_LIFE)
        for share, codes in zip(self.shares, matched.values(), strict=True):
            own = codes[pairs.items]
            among = _matches(codes[pairs.seen], own[pairs.row])  # [P, M]
            n = pairs.sum(np.ones(len(pairs.row)))
            ratios = np.zeros(len(own))
            for m in range(own.shape[1]):
                base = share[own[:, m]]
                drawn = (pairs.sum(among[:, m]) + PSEUDO * base) / (n + PSEUDO)
                ratios += np.where(own[:, m] > 0, np.log(drawn / base), 0)
            sizes = (codes > 0).sum(1)
            yield ratios / np.maximum(sizes[pairs.items], 1)
            yield np.log1p(pairs.sum(among.sum(1) > 0))
            norm = np.sqrt(np.maximum(sizes[pairs.seen] * sizes[pairs.items][pairs.row], 1))
            yield pairs.mean(among.sum(1) / norm, weight)
        for values in self._attributes.item_dense.values():
            gap = np.abs(values[pairs.seen] - values[pairs.items][pairs.row])
            known = np.isfinite(gap)
            gap = np.minimum(np.nan_to_num(gap, nan=FAR), FAR)
            yield pairs.mean(gap, known, empty=1.0)
            yield pairs.mean(gap < NEAR, known, empty=0.15)

    def save(self, folder: Path) -> None:
        """Writes the folder that `load` reads, the same bytes each time."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "table.npy", self.table.data)
        for i, share in enumerate(self.shares):
            np.save(folder / f"share_{i}.npy", share)

    @classmethod
    def load(cls, folder: Path, statistics: Statistics) -> "HistoryStatistics":
        """Reads a folder that `save` wrote, of the same statistics."""
        n = len(matched_columns(statistics.attributes))
        shares = tuple(load_array(folder / f"share_{i}.npy") for i in range(n))
        return cls(statistics, Table(load_array(folder / "table.npy"), 1), shares)


_LABEL = Label("positive", "binary")


def matched_columns(attributes: Attributes) -> dict[str, np.ndarray]:
    """Name -> codes [n_items, M] of the item columns that histories are compared by; 0 = none."""
    found = {}
    if attributes.category:
        found["category"] = attributes.item[attributes.category][:, None]
    if attributes.tags.shape[1]:
        found["tags"] = attributes.tags
    further = (name for name in attributes.item if name != attributes.category)
    return found | {name: attributes.item[name][:, None] for name in further}


def fit_history(statistics: Statistics, rows: Rows) -> HistoryStatistics:
    """Counts the training rows that `statistics` was fitted on."""
    table = Table.fit(rows.item.astype(np.int64), _counted(statistics, rows))
    shares = []
    for codes in matched_columns(statistics.attributes).values():
        found = np.bincount(codes[rows.item].ravel(), minlength=int(codes.max(initial=0)) + 1)
        counts = found + 1.0  # a value that no training row has is not 0
        shares.append(counts / (len(rows.item) + len(counts)))
    return HistoryStatistics(statistics, table, tuple(shares))


def _counted(statistics: Statistics, rows: Rows) -> Counted:
    """The rows with their positive label alone."""
    label = rows.labels[statistics.positive]
    present, value = fixed_point(statistics.positive, label)
    return Counted(rows.time, label == 1, [present], [value])


def _chunks(lengths: np.ndarray) -> Iterator[slice]:
    """Slices of rows whose histories hold about _PAIRS entries together."""
    ends = np.cumsum(lengths + 1)
    start = 0
    while start < len(lengths):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _PAIRS, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _matches(seen: np.ndarray, own: np.ndarray) -> np.ndarray:
    """[P, M] bool: which of the item's values [P, M] are among the entry's [P, M']."""
    found = np.zeros(own.shape, bool)
    for m in range(seen.shape[1]):
        found |= own == seen[:, m : m + 1]
    return found & (own > 0)


@dataclass(frozen=True)
class _Pairs:
    """All (row, entry) pairs of some rows: row, seen (item), age (seconds), dated, rank [P].

    rank: 0 is the row's latest entry.  items [n]: the rows' own items.
    """

    items: np.ndarray
    row: np.ndarray
    seen: np.ndarray
    age: np.ndarray
    dated: np.ndarray
    rank: np.ndarray

    @classmethod
    def of(
        cls,
        items: np.ndarray,
        now: np.ndarray,
        start: np.ndarray,
        stop: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
    ) -> "_Pairs":
        length = stop - start
        row = np.repeat(np.arange(len(items)), length)
        place = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        at = start[row] + place
        when = np.asarray(time[at])
        return cls(
            items,
            row,
            np.asarray(item[at]).astype(np.int64),
            (now[row] - when).astype(np.float64),
            when > 0,
            length[row] - 1 - place,
        )

    def sum(self, values: np.ndarray) -> np.ndarray:
        """[n] sum of [P] values over each row's entries."""
        return np.bincount(self.row, weights=values, minlength=len(self.items))

    def mean(
        self, values: np.ndarray, weight: np.ndarray | None = None, empty: float = 0.0
    ) -> np.ndarray:
        """[n] weighted mean; `empty` where there is nothing."""
        w = np.ones(len(self.row)) if weight is None else weight.astype(np.float64)
        total = self.sum(w)
        return np.where(total > 0, self.sum(values * w) / np.where(total > 0, total, 1), empty)

    def age_of(self, rank: int) -> np.ndarray:
        """[n] seconds since the entry of that rank; LONG_AGO where there is none or no time."""
        mine = self.dated & (self.rank == rank)
        found = np.full(len(self.items), float(LONG_AGO))
        found[self.row[mine]] = self.age[mine]
        return found
