"""What a source gives (`RawData`) and what the prepared data says of itself (`Schema`)."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

StatisticGroup = Literal["user", "item", "cross"]
HistoryOf = Literal["positive", "all"]  # what histories hold


@dataclass(frozen=True)
class Label:
    """One label column of the events.

    kind: "binary" (0 or 1) or "value" (a real number).
    low, high: the range a value must lie in; None is open. A binary label needs none.
    """

    name: str
    kind: Literal["binary", "value"]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Columns:
    """What the columns of a source mean.

    positive: the binary label that puts an event into histories and makes it a "next item".
    item_text: text fields, for the template.  item_category: the main category, "" if none.
    item_tags: a list column of strings (genres, tags), "" if none.
    context: categorical columns of the events; hour and weekday come from the time.
    """

    labels: tuple[Label, ...]
    positive: str
    item_text: tuple[str, ...]
    item_category: str
    item_tags: str = ""
    item_categorical: tuple[str, ...] = ()
    item_dense: tuple[str, ...] = ()
    user_categorical: tuple[str, ...] = ()
    user_dense: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawData:
    """Three tables and what their columns mean; what every source returns.

    events: user (str), item (str), time (int64, unix seconds), the labels (float, null = missing),
        contexts (str); optionally `split` (0 train, 1 valid, 2 test: the split is given),
        `history` (list[str]: the row's history is given, oldest first) and beside it
        `history_time` (list[int], unix seconds, 0 = unknown); `other` (str, null = none: an item
        whose text is compared with that of the row's own).
    items: item (str) and its text, category, ... columns.  users: user (str) and its profile.
    files: (file name inside the raw folder, sha256) of what was read.
    earlier: events that stand in histories and nowhere else (from before the log, say): user,
        item, time (at which they are known at the latest), the labels. Ties keep their order.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    columns: Columns
    files: tuple[tuple[str, str], ...] = ()
    earlier: pl.DataFrame | None = None


@dataclass(frozen=True)
class Categorical:
    """A categorical column: codes 0 (missing or unknown) to size - 1."""

    name: str
    size: int


@dataclass(frozen=True)
class StatisticColumn:
    """A column of events/stats.npy.

    group: "user" (query side only: no target item involved), "item", "cross" (both).
    """

    name: str
    group: StatisticGroup


@dataclass(frozen=True)
class Schema:
    """What the manifest of a prepared folder says; all a model must know to be built.

    n_users, n_items: known users and items, the unknown 0 included.
    user_buckets: rows of the users' table into which ids are hashed; 0 = a row for each.
    item_categorical: every items/cat_<name>.npy, the main category among them.
    category: the name of the main category, "" if none; its classes are its codes.
    n_tags: size of the tags' vocabulary, 0 included; tag_width: M of items/tags.npy (0 = no tags).
    item_dense, user_dense: names of the columns of items/dense.npy and users/dense.npy.
    history_types: number of codes of history/type.npy, the padding 0 included.
    history: whether histories hold positive events or all of them.
    history_values: labels of the histories' events that are given as numbers.
    token_types: whether items/token_types.npy is there (a text pair).
    other: whether events/other.npy is there (an item to compare the row's own with).
    """

    n_users: int
    n_items: int
    labels: tuple[Label, ...]
    positive: str
    category: str
    item_categorical: tuple[Categorical, ...]
    user_categorical: tuple[Categorical, ...]
    context: tuple[Categorical, ...]
    n_tags: int
    tag_width: int
    item_dense: tuple[str, ...]
    user_dense: tuple[str, ...]
    statistics: tuple[StatisticColumn, ...]
    history_types: int
    token_types: bool = False
    history: HistoryOf = "positive"
    history_values: tuple[str, ...] = ()
    other: bool = False
    user_buckets: int = 0

    @property
    def user_rows(self) -> int:
        """Rows of the users' embedding table, row 0 (no id) included."""
        return self.user_buckets + 1 if self.user_buckets else self.n_users

    @property
    def n_categories(self) -> int:
        """Classes of the main category, 0 = unknown included; 0 when there is none."""
        return next((c.size for c in self.item_categorical if c.name == self.category), 0)

    def label(self, name: str) -> Label:
        """The label of that name; KeyError if there is none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(name)

    def statistic_indices(self, group: StatisticGroup) -> tuple[int, ...]:
        """Which columns of events/stats.npy belong to a group, ascending."""
        return tuple(i for i, column in enumerate(self.statistics) if column.group == group)

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON knows; `from_dict` is the inverse."""
        as_lists: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return as_lists

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Schema":
        """The schema that `to_dict` wrote."""
        return cls(
            **{
                **values,
                "labels": tuple(Label(**v) for v in values["labels"]),
                "item_categorical": tuple(Categorical(**v) for v in values["item_categorical"]),
                "user_categorical": tuple(Categorical(**v) for v in values["user_categorical"]),
                "context": tuple(Categorical(**v) for v in values["context"]),
                "item_dense": tuple(values["item_dense"]),
                "user_dense": tuple(values["user_dense"]),
                "history_values": tuple(values["history_values"]),
                "statistics": tuple(StatisticColumn(**v) for v in values["statistics"]),
            }
        )
