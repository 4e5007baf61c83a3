"""Label statistics as features: fitted on training rows, frozen, asked for any pair.

`mtl_jax.data.features` says what the columns are. Training rows see events strictly before their
time, or the other folds or blocks of time. All other rows see the tables as they were at the end
of training.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import StatisticsConfig
from mtl_jax.data.features import column_names, key_columns, prior
from mtl_jax.data.keys import Attributes, Key, encode_key, expand_keys
from mtl_jax.data.schema import Label, StatisticColumn, StatisticGroup
from mtl_jax.data.statistics_store import load_parts, save_parts
from mtl_jax.data.sums import CausalSums, Counted, OutOfFoldSums, Sums, Table, fixed_point

_DAY = 86_400  # seconds
_CHUNK = 500_000  # rows looked up at once
_NO_CONTEXTS: Mapping[str, np.ndarray] = {}


@dataclass(frozen=True)
class Rows:
    """Events sorted by (time, source row); the arrays of one part, or all.

    user, item [N] int32; time [N] int64; row [N] int64 (place in the source);
    labels: name -> [N] float, NaN = missing; contexts: name -> [N] int32.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    row: np.ndarray
    labels: Mapping[str, np.ndarray]
    contexts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Statistics:
    """Frozen tables and all that is needed to ask them; made by `fit` or read by `load`.

    tables: one for each key.  totals: the table of all rows (one code, 1).
    frozen_at: time of the last training row, unix seconds.
    """

    config: StatisticsConfig
    labels: tuple[Label, ...]
    positive: str
    keys: tuple[Key, ...]
    attributes: Attributes
    tables: tuple[Table, ...]
    totals: Table
    frozen_at: int

    @cached_property
    def columns(self) -> tuple[StatisticColumn, ...]:
        """Name and group of every feature, in order."""
        return tuple(
            StatisticColumn(f"{key.name}.{name}", key.group)
            for key in self.keys
            for name in column_names(key, self.labels, self.config)
        )

    def indices(self, *groups: StatisticGroup) -> tuple[int, ...]:
        """Which features belong to the groups, ascending."""
        return tuple(i for i, column in enumerate(self.columns) if column.group in groups)

    def priors(self) -> dict[str, float]:
        """Rate or mean of each label over the training rows: what `rate` and `mean` are above."""
        values = self._priors(self.totals.at(np.ones(1, np.int64)))
        return {
            label.name: float(value[0]) for label, value in zip(self.labels, values, strict=True)
        }

    def features(
        self,
        users: np.ndarray,
        items: np.ndarray,
        contexts: Mapping[str, np.ndarray] = _NO_CONTEXTS,
        now: np.ndarray | int = 0,
        groups: tuple[StatisticGroup, ...] = ("user", "item", "cross"),
    ) -> np.ndarray:
        """What the frozen tables say of (user, item, context) triples.

        Args:
            users, items: [n] ids; 0 is unknown.  contexts: name -> [n] codes, those that keys use.
            now: [n] or one time, unix seconds, for recency; 0 is the end of training.
            groups: only these groups' columns, in the order of `columns`.

        Returns:
            [n, F] float32.

        Raises:
            UserError: an id out of range, or a context that a key needs is missing.
        """
        users, items, now = np.broadcast_arrays(users, items, now)
        out = np.zeros((len(users), len(self.indices(*groups))), np.float32)
        for start in range(0, len(users), _CHUNK):
            part = slice(start, start + _CHUNK)
            cut = {name: np.asarray(column)[part] for name, column in contexts.items()}
            found = self.columns_of(users[part], items[part], cut, now[part], groups)
            for i, column in enumerate(found):
                out[part, i] = column
        return out

    def columns_of(
        self,
        users: np.ndarray,
        items: np.ndarray,
        contexts: Mapping[str, np.ndarray],
        now: np.ndarray,
        groups: tuple[StatisticGroup, ...] = ("user", "item", "cross"),
    ) -> Iterator[np.ndarray]:
        """As `features`, one column [n] at a time; `now` is [n]."""
        _require_ids("user", users, self.attributes.n_users)
        _require_ids("item", items, self.attributes.n_items)
        now = np.where(now, now, self.frozen_at)
        priors = self._priors(self.totals.at(np.ones(len(users), np.int64)))
        for key, table in zip(self.keys, self.tables, strict=True):
            if key.group in groups:
                codes = encode_key(key, self.attributes, users, items, contexts)
                sums = table.at(codes.ravel())
                yield from key_columns(
                    self.config, self.labels, key, codes, sums, priors, self._now(now)
                )

    def training_columns(self, rows: Rows) -> Iterator[np.ndarray]:
        """What each of the training rows that were fitted may see, one column [N] at a time."""
        counted = _counted(rows, self.labels, self.positive)
        rows = replace(rows, labels={})  # as long as the log: let go of
        everywhere = np.ones((len(rows.user), 1), np.int64)
        priors = self._priors(self._seen(everywhere, counted, rows.row))
        now = self._now(rows.time)
        for key in self.keys:
            codes = encode_key(key, self.attributes, rows.user, rows.item, rows.contexts)
            sums = self._seen(codes, counted, rows.row)
            yield from key_columns(self.config, self.labels, key, codes, sums, priors, now)

    def training_features(self, rows: Rows) -> np.ndarray:
        """All of `training_columns`, [N, F] float32."""
        out = np.zeros((len(rows.user), len(self.columns)), np.float32)
        for i, column in enumerate(self.training_columns(rows)):
            out[:, i] = column
        return out

    def _priors(self, sums: Sums) -> list[np.ndarray]:
        return [
            prior(label, *sums.label(i), self.config.strength)
            for i, label in enumerate(self.labels)
        ]

    def save(self, folder: Path) -> None:
        """Writes the folder that `load` reads, the same bytes each time."""
        meta = {
            "config": asdict(self.config),
            "labels": [asdict(label) for label in self.labels],
            "positive": self.positive,
            "keys": [asdict(key) for key in self.keys],
            "frozen_at": self.frozen_at,
        }
        save_parts(folder, meta, (*self.tables, self.totals), self.attributes)

    @classmethod
    def load(cls, folder: str | Path) -> "Statistics":
        """Reads a folder that `save` wrote; tables are memory-mapped.

        Raises:
            UserError: a file is missing or unreadable, naming it.
        """
        meta, tables, attributes = load_parts(Path(folder))
        config: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in meta["config"].items()
        }
        config["strengths"] = tuple((name, a) for name, a in config["strengths"])
        return cls(
            config=StatisticsConfig(**config),
            labels=tuple(Label(**label) for label in meta["labels"]),
            positive=meta["positive"],
            keys=tuple(Key(key["name"], tuple(key["parts"])) for key in meta["keys"]),
            attributes=attributes,
            tables=tables[:-1],
            totals=tables[-1],
            frozen_at=meta["frozen_at"],
        )

    def _seen(self, codes: np.ndarray, counted: Counted, row: np.ndarray) -> Sums:
        """Sums for [N, M] codes of training rows, as the configuration says."""
        spread = _spread(counted, codes)
        if self.config.train == "causal":
            return CausalSums(codes.ravel(), spread)
        fold, folds = folds_of(self.config, counted.time, row)
        return OutOfFoldSums(codes.ravel(), spread, np.repeat(fold, codes.shape[1]), folds)

    def _now(self, now: np.ndarray) -> np.ndarray:
        if self.config.recency == "frozen":
            return np.minimum(now, self.frozen_at)
        return now


def fit(
    config: StatisticsConfig,
    labels: tuple[Label, ...],
    positive: str,
    attributes: Attributes,
    rows: Rows,
) -> Statistics:
    """Counts the training rows.

    Raises:
        UserError: no rows, an unknown label or key, a label too large to be summed.
    """
    if not len(rows.user):
        raise UserError("statistics: there are no training rows to count")
    names = [label.name for label in labels]
    unknown = [name for name in config.labels if name not in names]
    if unknown:
        raise UserError(f"data.statistics.labels: {unknown[0]!r} is not one of {names}")
    _check_config(config)
    chosen = tuple(label for label in labels if not config.labels or label.name in config.labels)
    keys = expand_keys(config.keys, attributes)
    known = [key.name for key in keys]
    for name, _ in config.strengths:
        if name not in known:
            raise UserError(f"data.statistics.strengths: no key {name!r} among {', '.join(known)}")
    counted = _counted(rows, chosen, positive)
    tables = []
    for key in keys:
        codes = encode_key(key, attributes, rows.user, rows.item, rows.contexts)
        tables.append(Table.fit(codes.ravel(), _spread(counted, codes)))
    totals = Table.fit(np.ones(len(rows.user), np.int64), counted)
    frozen_at = int(rows.time[-1])
    return Statistics(config, chosen, positive, keys, attributes, tuple(tables), totals, frozen_at)


def _counted(rows: Rows, labels: tuple[Label, ...], positive: str) -> Counted:
    pairs = [fixed_point(label.name, rows.labels[label.name]) for label in labels]
    return Counted(
        rows.time, rows.labels[positive] == 1, [p for p, _ in pairs], [v for _, v in pairs]
    )


def _spread(counted: Counted, codes: np.ndarray) -> Counted:
    """Each row as often as it has codes [N, M]."""
    width = codes.shape[1]
    return counted if width == 1 else counted.take(np.repeat(np.arange(len(codes)), width))


def _check_config(config: StatisticsConfig) -> None:
    if min(config.strength, *(a for _, a in config.strengths), 1.0) <= 0:
        raise UserError("data.statistics: strength must be above 0, strengths too")
    if config.folds < 2 or config.block_days <= 0 or config.history_last < 1 or config.clip < 0:
        raise UserError(
            "data.statistics: folds must be at least 2, block_days above 0, history_last at "
            "least 1 and clip not negative"
        )


def folds_of(config: StatisticsConfig, time: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, int]:
    """The fold of each training row [N], and how many folds there are; none for "causal".

    Args:
        time: [N] unix seconds, ascending.  row: [N] places in the source.
    """
    if config.train == "kfold":
        return _fold(row, config.folds), config.folds
    length = max(int(config.block_days * _DAY), 1)
    block = time // length - time[0] // length
    return block, int(block[-1]) + 1


def _fold(row: np.ndarray, folds: int) -> np.ndarray:
    """A fold for each source row, by a hash (splitmix64), so that neighbours are spread."""
    z = row.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(folds)).astype(np.int64)


def _require_ids(what: str, ids: np.ndarray, size: int) -> None:
    wrong = np.flatnonzero((ids < 0) | (ids >= size))
    if len(wrong):
        raise UserError(
            f"{what} id {int(ids[wrong[0]])} at place {wrong[0]} is not one of the "
            f"{size} prepared ids (0 is unknown)"
        )
