"""Which fields of a TaskSpec go together; what makes no sense is refused by name."""

import math
from dataclasses import fields

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec

CLASSES = ("binary", "multilabel", "multiclass", "ordinal")
# Fields that are read for some kinds only.
READ_BY: dict[str, tuple[str, ...]] = {
    "classes": ("multiclass", "multilabel"),
    "low": ("regression", "ordinal", "similarity"),
    "high": ("regression", "ordinal", "similarity"),
    "labels": ("multilabel",),
    "how": ("similarity",),
    "smooth": ("binary", "multilabel", "multiclass"),
    "gamma": CLASSES,
    "class_weights": CLASSES,
    "balanced": CLASSES,
}


def check_task(t: TaskSpec) -> None:
    """UserError naming the task and the field for values that the task's kind cannot use."""
    defaults = {f.name: f.default for f in fields(TaskSpec)}
    for name, kinds in READ_BY.items():
        if getattr(t, name) != defaults[name] and t.kind not in kinds:
            _refuse(t, name, f"kind {t.kind!r} does not read it, only {', '.join(kinds)} do")
    if bool(t.label) == bool(t.labels):
        _refuse(t, "label", 'name one column, or several as `labels` of kind "multilabel"')
    if len(set(t.labels)) != len(t.labels):
        _refuse(t, "labels", "a column is named twice")
    if t.kind in ("similarity", "retrieval") and t.level != "event":
        _refuse(t, "level", f"kind {t.kind!r} is of events")
    if t.kind in ("ordinal", "similarity"):
        _check_range(t)
    _check_loss_options(t)


def _check_range(t: TaskSpec) -> None:
    low, high = t.low, t.high
    if low is None or high is None:
        if t.kind == "ordinal" or low != high:
            _refuse(t, "low", f"kind {t.kind!r} needs low and high")
        return
    if low >= high:
        _refuse(t, "low", f"it must be below high={high!r}")
    if t.kind == "ordinal" and not (low.is_integer() and high.is_integer()):
        _refuse(t, "low", f"levels are whole numbers, and high is {high!r}")


def _check_loss_options(t: TaskSpec) -> None:
    if not 0.0 <= t.smooth < 1.0:
        _refuse(t, "smooth", "it must lie in [0, 1)")
    if not (math.isfinite(t.gamma) and t.gamma >= 0.0):
        _refuse(t, "gamma", "it must be 0 or above")
    if t.balanced and (t.class_weights or t.level != "event"):
        _refuse(t, "balanced", "it is for tasks on events without class_weights of their own")
    needed = {"binary": 2, "multilabel": 2 * t.size}.get(t.kind, t.size)
    if t.class_weights and len(t.class_weights) != needed:
        _refuse(t, "class_weights", f"{needed} are needed, there are {len(t.class_weights)}")
    if not all(math.isfinite(w) and w >= 0.0 for w in t.class_weights):
        _refuse(t, "class_weights", "they must be finite and not negative")


def _refuse(t: TaskSpec, field: str, why: str) -> None:
    raise UserError(f"task {t.name!r}: {field}={getattr(t, field)!r}: {why}")
