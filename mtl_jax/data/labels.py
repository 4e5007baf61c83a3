"""Labels and masks of tasks, from prepared columns. A missing label is never a zero."""

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_rules import check_task
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.prepared import Prepared
from mtl_jax.data.schema import Label

INTEREST, CATEGORY, TAGS = "interest", "category", "tags"  # labels every source has
MULTI_HOT = (TAGS, "multilabel")


def check_tasks(data: Prepared, tasks: tuple[TaskSpec, ...]) -> None:
    """Refuse tasks whose fields contradict each other, or that the prepared data cannot serve."""
    if len({t.name for t in tasks}) != len(tasks):
        raise UserError(f"tasks have equal names: {[t.name for t in tasks]}")
    schema = data.schema
    sizes = {INTEREST: schema.n_categories, CATEGORY: schema.n_categories, TAGS: schema.n_tags}
    for t in tasks:
        check_task(t)
        where = f"task {t.name!r} in {data.folder}"
        if t.label in sizes and (t.kind == "multiclass" or (t.label, t.kind) == MULTI_HOT):
            if sizes[t.label] != t.classes:
                raise UserError(
                    f"{where}: classes={t.classes}, but {t.label} has {sizes[t.label]} there"
                )
            if t.kind == "multilabel" and t.level != "item":
                raise UserError(f"{where}: tags are of items; set level='item'")
            continue
        if t.level == "item":
            raise UserError(f"{where}: items have no label {t.label!r}, only a category and tags")
        for column in t.columns:
            _check_column(data, t, column, where, [*sizes])


def _check_column(data: Prepared, t: TaskSpec, column: str, where: str, others: list[str]) -> None:
    """Refuse a label column of the events that is missing, or not of the task's kind."""
    schema = data.schema
    names = [label.name for label in schema.labels]
    if column not in names:
        raise UserError(f"{where}: no label {column!r}. {nearest(column, [*names, *others])}")
    label = schema.label(column)
    hard = label.kind == "binary"
    if t.kind in ("retrieval", "multilabel") and not hard:
        raise UserError(f"{where}: kind {t.kind!r} needs a 0/1 label, {column!r} is a value")
    if t.probability and not hard and not _within_01(label):
        raise UserError(
            f"{where}: kind {t.kind!r} needs a 0/1 label, {column!r} is a value (probabilities "
            "are: declare low=0, high=1 with the label)"
        )
    if t.kind == "multiclass" and t.classes < 2:
        raise UserError(f"{where}: kind 'multiclass' needs classes of at least 2")
    if t.kind == "similarity" and t.how == "cosine" and not schema.other:
        raise UserError(f"{where}: how='cosine' needs a column `other`, an item, in the events")
    if t.kind in ("ordinal", "multiclass"):
        _check_levels(data, t, where)


def _within_01(label: Label) -> bool:
    return label.low is not None and label.high is not None and 0 <= label.low < label.high <= 1


def _check_levels(data: Prepared, t: TaskSpec, where: str) -> None:
    """Refuse a label that is no class or level, naming the first such value."""
    y = np.asarray(data.events[f"label_{t.label}"], np.float64)
    low = t.low or 0.0
    wrong = np.isfinite(y) & ((y != np.floor(y)) | (y < low) | (y >= low + t.size))
    if wrong.any():
        row = int(np.argmax(wrong))
        source = int(data.events["row"][row]) + 1
        raise UserError(
            f"{where}: label {t.label!r} of the source's row {source} (the first is 1) is "
            f"{y[row]:g}; kind {t.kind!r} takes the whole numbers from {low:g} to "
            f"{low + t.size - 1:g}"
        )


def event_labels(
    data: Prepared, tasks: tuple[TaskSpec, ...], index: HostArray
) -> dict[str, tuple[HostArray, HostArray]]:
    """task -> (label [n] or [n, C], mask [n]) of events `index`, for tasks with a label per row.

    "multilabel": 0 and 1, -1 where a label is unknown, mask 1 where one is known.
    "ordinal": levels from 0.
    """
    out = {}
    for t in tasks:
        if t.level == "item":
            continue
        if t.label == INTEREST and t.kind == "multiclass":
            out[t.name] = _interest(data, index)
            continue
        columns = [np.asarray(data.events[f"label_{c}"][index], np.float32) for c in t.columns]
        raw = np.stack(columns, -1) if t.kind == "multilabel" else columns[0]
        known = np.isfinite(raw)
        if t.kind == "ordinal":
            raw = raw - np.float32(t.low or 0.0)
        label = np.where(known, raw, -1.0 if t.kind == "multilabel" else 0.0)
        mask = known.any(-1) if t.kind == "multilabel" else known
        if t.kind == "retrieval":
            mask = known & (raw == 1)
        if t.kind == "similarity" and t.how == "cosine":
            mask = known & (np.asarray(data.events["other"][index]) > 0)
        out[t.name] = (label.astype(np.float32), np.asarray(mask, np.float32))
    return out


def class_counts(data: Prepared, task: TaskSpec, index: HostArray) -> HostArray:
    """Rows of each class among events `index`: [C], or [C, 2] (0 and 1) of "multilabel".

    A soft label counts as a part of a row in either class.
    """
    label, mask = event_labels(data, (task,), index)[task.name]
    y = label[mask > 0].astype(np.float64)
    if task.kind in ("binary", "multilabel"):
        known = y >= 0
        ones = np.where(known, y, 0.0).sum(0)
        found: HostArray = np.stack([known.sum(0) - ones, ones], -1)
        return found
    if y.ndim > 1:
        return y.sum(0)
    return np.bincount(y.astype(np.int64), minlength=task.size).astype(np.float64)


def _interest(data: Prepared, index: HostArray) -> tuple[HostArray, HostArray]:
    """Distribution of categories over the user's next positive events [n, C]."""
    following = np.asarray(data.events["next_items"][index])  # [n, m], 0 = none
    category = np.asarray(data.items[f"cat_{data.schema.category}"])[following]
    out = np.zeros((len(index), data.schema.n_categories), np.float32)
    rows = np.repeat(np.arange(len(index)), following.shape[1])
    some = (following > 0).ravel()
    np.add.at(out, (rows[some], category.ravel()[some]), 1.0)
    total = out.sum(1)
    return out / np.maximum(total, 1.0)[:, None], (total > 0).astype(np.float32)


def item_labels(data: Prepared, task: TaskSpec, ids: HostArray) -> dict[str, HostArray]:
    """label/ and mask/ of an item-level task for item ids [..., U].

    Tags: their distribution, or each as 0 or 1 for "multilabel" (-1 for the unknown tag's column).
    """
    if task.label == TAGS:
        tags = np.asarray(data.items["tags"][ids])
        out = np.zeros((*ids.shape, task.classes), np.float32)
        np.put_along_axis(out, tags, 1.0, axis=-1)
        out[..., 0] = 0.0
        total = out.sum(-1)
        mask = total > 0
        label = out / np.maximum(total, 1.0)[..., None]
        if task.kind == "multilabel":
            label = out
            label[..., 0] = -1.0
    else:
        label = np.asarray(data.items[f"cat_{data.schema.category}"][ids]).astype(np.float32)
        mask = label > 0
    return {f"label/{task.name}": label, f"mask/{task.name}": mask.astype(np.float32)}
