"""From cleaned tables to all arrays of a prepared folder but the texts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.fitted import fitted_rules
from mtl_jax.data.history import (
    EventColumns,
    Histories,
    given_histories,
    own_histories,
    type_codes,
)
from mtl_jax.data.history_features import Entries, HistoryStatistics, fit_history
from mtl_jax.data.report import RuleCount
from mtl_jax.data.schema import Columns, RawData
from mtl_jax.data.split import LEFT_OUT, PARTS, Split, left_out, split_events
from mtl_jax.data.statistics import Statistics, fit
from mtl_jax.data.tables import (
    Entities,
    Events,
    attributes_of,
    check_buckets,
    encode_contexts,
    encode_events,
    encode_items,
    encode_users,
    entity_ids,
    rows_of,
)
from mtl_jax.data.vocab import Vocabulary


@dataclass(frozen=True)
class Encoded:
    """All that is known before statistics and texts.

    split: of the events that are kept.  all_parts: source row and part of these and those left out.
    rules, notes: what the fitted rules found.
    """

    users: Vocabulary
    items: Vocabulary
    events: Events
    split: Split
    all_parts: tuple[np.ndarray, np.ndarray]
    rules: tuple[RuleCount, ...]
    notes: tuple[str, ...]
    histories: Histories
    positive: EventColumns
    item_side: Entities
    user_side: Entities
    context_vocabularies: dict[str, Vocabulary]
    contexts: dict[str, np.ndarray]

    @property
    def train(self) -> np.ndarray:
        """[N] bool."""
        found: np.ndarray = self.split.part == 0
        return found

    @property
    def part_sizes(self) -> dict[str, int]:
        """Rows of each part by its name, those left out as well."""
        sizes = np.bincount(self.all_parts[1], minlength=len(PARTS))
        return {name: int(n) for name, n in zip(PARTS, sizes, strict=True)}


def encode(raw: RawData, config: DataConfig) -> Encoded:
    """Ids, split, histories, vocabularies; `raw` is cleaned (it has `row` and `flag`)."""
    check_buckets(raw.columns, config.fitted)
    if config.hash_users < 0:
        raise UserError(f"data.hash_users={config.hash_users}: rows to hash to, or 0 for none")
    users, items = entity_ids(raw)
    events = encode_events(raw, users, items)
    given = events.frame["split"].to_numpy() if "split" in events.frame.columns else None
    split = split_events(events.user, events.time, events.row, config, given, events.labels)
    fitted = fitted_rules(events, split.part, raw.columns.labels, config.fitted)
    split = left_out(split, events.row, fitted.dropped)
    all_parts = (events.row, split.part)
    kept = np.flatnonzero(split.part != LEFT_OUT)
    events, split = fitted.events.take(kept), replace(split, part=split.part[kept])
    train = split.part == 0
    everything = config.history == "all"
    positive = EventColumns(
        events.user,
        events.item,
        events.time,
        type_codes(raw.columns, events.labels, everything),
        (events.labels[raw.columns.positive] == 1) & (events.flag == 0),
    )
    usable = (events.flag == 0) & (events.user > 0) & (events.item > 0)
    remembered = replace(positive, positive=usable) if everything else positive
    if split.drawn:
        remembered = replace(remembered, positive=remembered.positive & train)
    if everything and ("history" in events.frame.columns or config.statistics.history):
        raise UserError(
            'data.history="all" needs a source without given histories, and '
            "data.statistics.history=False"
        )
    earlier = _earlier(raw, users, items, everything)
    histories, seen = _histories(events, remembered, items, train, earlier)
    context_vocabularies, contexts = encode_contexts(events, raw.columns, train, config.fitted)
    warm_items, warm_users = np.zeros(len(items), bool), np.zeros(len(users), bool)
    warm_items[events.item[train]] = warm_users[events.user[train]] = True
    return Encoded(
        users,
        items,
        replace(events, frame=pl.DataFrame()),  # all that was in it is encoded
        split,
        all_parts,
        fitted.rules,
        fitted.notes,
        histories,
        positive,
        encode_items(raw, items, warm_items, seen, config.fitted),
        encode_users(raw, users, warm_users, config.fitted),
        context_vocabularies,
        contexts,
    )


def _histories(
    events: Events,
    positive: EventColumns,
    items: Vocabulary,
    train: np.ndarray,
    earlier: EventColumns | None,
) -> tuple[Histories, np.ndarray]:
    """Histories, and the items that histories show from outside the log (given, or earlier)."""
    if "history" not in events.frame.columns:
        seen = np.zeros(0, np.int64) if earlier is None else np.unique(earlier.item)
        return own_histories(positive, earlier), seen
    lists = events.frame["history"]
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    item = items.encode(lists.list.explode(empty_as_null=False, keep_nulls=False))
    times = None
    if "history_time" in events.frame.columns:
        flat = events.frame["history_time"].list.explode(empty_as_null=False, keep_nulls=False)
        times = flat.fill_null(0).to_numpy().astype(np.int64)
        if len(times) != len(item):
            raise UserError("events: history and history_time differ in length")
    histories = given_histories(positive, item, lengths, times)
    return histories, np.unique(item[np.repeat(train, lengths)])


def _earlier(
    raw: RawData, users: Vocabulary, items: Vocabulary, everything: bool
) -> EventColumns | None:
    """The source's earlier events, in order of time; unknown users and items stand nowhere."""
    if raw.earlier is None:
        return None
    frame = raw.earlier.drop_nulls("time").sort("time", maintain_order=True)
    labels = {
        label.name: frame[label.name].fill_null(np.nan).to_numpy().astype(np.float32)
        for label in raw.columns.labels
    }
    return EventColumns(
        users.encode(frame["user"]),
        items.encode(frame["item"]),
        frame["time"].to_numpy().astype(np.int64),
        type_codes(raw.columns, labels, everything),
        np.ones(frame.height, bool) if everything else labels[raw.columns.positive] == 1,
    )


def fit_statistics(
    encoded: Encoded, columns: Columns, config: DataConfig
) -> tuple[Statistics, HistoryStatistics | None, Iterator[np.ndarray]]:
    """The frozen tables, those of histories, and the features of every event.

    Features come one column at a time, [N] float32: of a large log they fit into no memory.
    """
    attributes = attributes_of(
        encoded.item_side, encoded.user_side, encoded.context_vocabularies, columns
    )
    rows = rows_of(encoded.events, encoded.contexts, np.flatnonzero(encoded.train))
    statistics = fit(config.statistics, columns.labels, columns.positive, attributes, rows)
    history = fit_history(statistics, rows) if config.statistics.history else None
    return statistics, history, _feature_columns(encoded, statistics, history)


def _feature_columns(
    encoded: Encoded, statistics: Statistics, history: HistoryStatistics | None
) -> Iterator[np.ndarray]:
    train, later = np.flatnonzero(encoded.train), np.flatnonzero(~encoded.train)
    asked = rows_of(encoded.events, encoded.contexts, later)
    out = np.zeros(len(encoded.split.part), np.float32)
    for own, frozen in zip(
        statistics.training_columns(rows_of(encoded.events, encoded.contexts, train)),
        statistics.columns_of(asked.user, asked.item, asked.contexts, asked.time),
        strict=True,
    ):
        out[train], out[later] = own, frozen
        yield out
    if history is None:
        return
    h = encoded.histories
    entries = Entries(h.item, h.time, h.start, h.stop)
    compared = np.zeros((len(out), len(history.columns)), np.float32)
    rows = rows_of(encoded.events, encoded.contexts, train)
    compared[train] = history.training_features(rows, entries.take(train))
    compared[later] = history.features(asked.item, asked.time, entries.take(later))
    yield from compared.T
