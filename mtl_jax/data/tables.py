"""From cleaned tables to dense ids, codes and arrays; what is fitted is fitted on training rows."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.data.clean import FLAGS
from mtl_jax.data.config import FittedConfig
from mtl_jax.data.keys import Attributes
from mtl_jax.data.schema import Columns, RawData
from mtl_jax.data.statistics import Rows
from mtl_jax.data.vocab import (
    Standardise,
    Vocabulary,
    encode_tags,
    fit_categorical,
    fit_standardise,
    fit_tags,
    id_vocabulary,
)


@dataclass(frozen=True)
class Events:
    """Cleaned events sorted by (time, source row); arrays as in the prepared folder.

    frame: the same rows, for what is not yet encoded (contexts, given histories).
    """

    frame: pl.DataFrame
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    row: np.ndarray
    flag: np.ndarray
    labels: dict[str, np.ndarray]
    other: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Events":
        """Those rows, ascending."""
        if len(rows) == len(self.row):
            return self
        return Events(
            self.frame[rows],
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.row[rows],
            self.flag[rows],
            {name: column[rows] for name, column in self.labels.items()},
            None if self.other is None else self.other[rows],
        )


@dataclass(frozen=True)
class Entities:
    """Items or users: vocabularies and arrays with row 0 = unknown.

    categorical: column -> [n] int32; tags: [n, M] int32; dense: [n, F] float32;
    warm: [n] bool, has a training row.
    """

    vocabularies: dict[str, Vocabulary]
    categorical: dict[str, np.ndarray]
    tags: np.ndarray
    n_tags: int
    standardise: Standardise
    dense: np.ndarray
    warm: np.ndarray


def encode_events(raw: RawData, users: Vocabulary, items: Vocabulary) -> Events:
    """Ids and label arrays. A flagged row whose time is missing or impossible has time 0."""
    untimed = pl.col("flag") & (FLAGS["missing"] | FLAGS["impossible time"]) > 0
    frame = raw.events.with_columns(
        pl.when(untimed).then(0).otherwise(pl.col("time")).fill_null(0).alias("time")
    )
    if not frame["time"].is_sorted():  # rows are in the order of the source
        frame = frame.sort("time", maintain_order=True)
    labels = {
        label.name: frame[label.name].fill_null(np.nan).to_numpy().astype(np.float32)
        for label in raw.columns.labels
    }
    return Events(
        frame,
        users.encode(frame["user"]),
        items.encode(frame["item"]),
        frame["time"].to_numpy().astype(np.int64),
        frame["row"].to_numpy().astype(np.int64),
        frame["flag"].to_numpy().astype(np.int8),
        labels,
        items.encode(frame["other"]) if "other" in frame.columns else None,
    )


def entity_ids(raw: RawData) -> tuple[Vocabulary, Vocabulary]:
    """Users (catalogue first, then those only events know) and items (the catalogue)."""
    by_row = raw.events.sort("row")["user"]
    return id_vocabulary(raw.users["user"], by_row), id_vocabulary(raw.items["item"])


def encode_items(
    raw: RawData,
    ids: Vocabulary,
    warm: np.ndarray,
    also_seen: np.ndarray,
    config: FittedConfig,
) -> Entities:
    """The items' arrays; fitted on items of training rows and of their given histories.

    Args:
        warm: [n_items] bool.  also_seen: item ids of the training rows' given histories.
    """
    columns = raw.columns
    seen = warm.copy()
    seen[also_seen] = True
    names = dict.fromkeys((columns.item_category, *columns.item_categorical))
    return _encode(
        _with_unknown(raw.items, "item", ids),
        tuple(name for name in names if name),
        columns.item_tags,
        columns.item_dense,
        warm,
        seen,
        config,
    )


def encode_users(raw: RawData, ids: Vocabulary, warm: np.ndarray, config: FittedConfig) -> Entities:
    """The users' arrays; fitted on users with a training row."""
    columns = raw.columns
    frame = _with_unknown(raw.users, "user", ids)
    return _encode(frame, columns.user_categorical, "", columns.user_dense, warm, warm, config)


def _with_unknown(frame: pl.DataFrame, key: str, ids: Vocabulary) -> pl.DataFrame:
    """One row per id, in order; row 0 and ids without a row are all missing."""
    order = pl.DataFrame({key: ids.values}, schema={key: pl.String})
    return order.join(frame, on=key, how="left", maintain_order="left")


def _encode(
    frame: pl.DataFrame,
    categorical: tuple[str, ...],
    tags: str,
    dense: tuple[str, ...],
    warm: np.ndarray,
    seen: np.ndarray,
    config: FittedConfig,
) -> Entities:
    fitted, buckets = frame.filter(pl.Series(seen)), dict(config.buckets)
    vocabularies = {
        name: fit_categorical(fitted[name], config.min_count, buckets.get(name, 0))
        for name in categorical
    }
    codes = {name: vocabularies[name].encode(frame[name]) for name in categorical}
    tag_codes = np.zeros((frame.height, 0), np.int32)
    n_tags = 0
    if tags:
        tag_vocabulary = fit_tags(fitted[tags], config.min_count, buckets.get(tags, 0))
        tag_codes, n_tags = encode_tags(tag_vocabulary, frame[tags]), len(tag_vocabulary)
        vocabularies["tags"] = tag_vocabulary
    standardise = fit_standardise(fitted, dense, config.outlier_fences)
    return Entities(
        vocabularies, codes, tag_codes, n_tags, standardise, standardise.encode(frame), warm
    )


def encode_contexts(
    events: Events, columns: Columns, train: np.ndarray, config: FittedConfig
) -> tuple[dict[str, Vocabulary], dict[str, np.ndarray]]:
    """Context codes of every event; vocabularies of the training rows [N] bool."""
    fitted = events.frame.filter(pl.Series(train))
    buckets = dict(config.buckets)
    vocabularies = {
        name: fit_categorical(fitted[name], config.min_count, buckets.get(name, 0))
        for name in columns.context
    }
    codes = {name: vocabularies[name].encode(events.frame[name]) for name in columns.context}
    return vocabularies, codes


def attributes_of(
    items: Entities, users: Entities, contexts: dict[str, Vocabulary], columns: Columns
) -> Attributes:
    """What statistics may be keyed by, and what histories are compared by."""
    names = items.standardise.columns
    values, missing = items.dense[:, : len(names)], items.dense[:, len(names) :]
    dense = np.where(missing > 0, np.nan, values).astype(np.float32)
    return Attributes(
        n_users=len(users.warm),
        n_items=len(items.warm),
        item=items.categorical,
        tags=items.tags,
        user=users.categorical,
        contexts={name: len(vocabulary) for name, vocabulary in contexts.items()},
        category=columns.item_category,
        item_dense={name: dense[:, i] for i, name in enumerate(names)},
    )


def check_buckets(columns: Columns, config: FittedConfig) -> None:
    """UserError for buckets of a column that is not there, or of no size."""
    known = [
        *(name for name in (columns.item_category, columns.item_tags) if name),
        *columns.item_categorical,
        *columns.user_categorical,
        *columns.context,
    ]
    for name, size in config.buckets:
        if name not in known or size < 1:
            raise UserError(
                f"data.fitted.buckets=({name!r}, {size}): name a column and at least one bucket. "
                f"{nearest(name, known)}"
            )


def rows_of(events: Events, contexts: dict[str, np.ndarray], chosen: np.ndarray) -> Rows:
    """Some of the events, as statistics take them."""
    return Rows(
        events.user[chosen],
        events.item[chosen],
        events.time[chosen],
        events.row[chosen],
        {name: column[chosen] for name, column in events.labels.items()},
        {name: column[chosen] for name, column in contexts.items()},
    )
