"""Labels and masks of tasks, from prepared columns. A missing label is never a zero."""

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.prepared import Prepared

INTEREST, CATEGORY, TAGS = "interest", "category", "tags"  # labels every source has


def check_tasks(data: Prepared, tasks: tuple[TaskSpec, ...]) -> None:
    """Refuse tasks whose label, kind or level the prepared data cannot serve."""
    schema = data.schema
    names = [label.name for label in schema.labels]
    if len({t.name for t in tasks}) != len(tasks):
        raise UserError(f"tasks have equal names: {[t.name for t in tasks]}")
    for t in tasks:
        where = f"task {t.name!r} in {data.folder}"
        sizes = {INTEREST: schema.n_categories, CATEGORY: schema.n_categories, TAGS: schema.n_tags}
        if t.label in sizes and t.kind == "multiclass":
            if sizes[t.label] != t.classes:
                raise UserError(
                    f"{where}: classes={t.classes}, but {t.label} has {sizes[t.label]} there"
                )
            continue
        if t.label not in names:
            raise UserError(f"{where}: no label {t.label!r}. {nearest(t.label, [*names, *sizes])}")
        if t.kind in ("binary", "retrieval") and schema.label(t.label).kind != "binary":
            raise UserError(f"{where}: kind {t.kind!r} needs a 0/1 label, {t.label!r} is a value")
        if t.kind == "multiclass" and t.classes < 2:
            raise UserError(f"{where}: kind 'multiclass' needs classes of at least 2")


def event_labels(
    data: Prepared, tasks: tuple[TaskSpec, ...], index: HostArray
) -> dict[str, tuple[HostArray, HostArray]]:
    """task -> (label [n] or [n, C], mask [n]) of events `index`, for tasks with a label per row."""
    out = {}
    for t in tasks:
        if t.level == "item":
            continue
        if t.label == INTEREST and t.kind == "multiclass":
            out[t.name] = _interest(data, index)
            continue
        raw = np.asarray(data.events[f"label_{t.label}"][index], np.float32)
        known = np.isfinite(raw)
        mask = (known & (raw == 1)) if t.kind == "retrieval" else known
        out[t.name] = (np.where(known, raw, 0.0).astype(np.float32), mask.astype(np.float32))
    return out


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
    """label/ and mask/ of an item-level task for item ids [..., U]."""
    if task.label == TAGS:
        tags = np.asarray(data.items["tags"][ids])
        out = np.zeros((*ids.shape, task.classes), np.float32)
        np.put_along_axis(out, tags, 1.0, axis=-1)
        out[..., 0] = 0.0
        total = out.sum(-1)
        label = out / np.maximum(total, 1.0)[..., None]
        mask = total > 0
    else:
        label = np.asarray(data.items[f"cat_{data.schema.category}"][ids]).astype(np.float32)
        mask = label > 0
    return {f"label/{task.name}": label, f"mask/{task.name}": mask.astype(np.float32)}
