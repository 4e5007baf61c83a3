"""What a task is, before any code knows how to learn it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "multiclass", "regression", "retrieval"]
Level = Literal["event", "item", "user"]


@dataclass(frozen=True)
class TaskSpec:
    """One task: which label column it learns, as what, and how much it counts.

    name:    its name in losses, metrics and outputs.
    kind:    "binary" (logit), "multiclass" (C logits; hard or soft labels), "regression" (one
             value in the label's unit), "retrieval" (the row's item against all items).
    label:   the label column of the prepared events (or items, level "item"); a missing label
             (NaN) is masked out of loss, gradient and metric.
    loss:    a key of `mtl_jax.tasks.losses.LOSSES`; "" is the kind's default.
    weight:  the task's initial weight alpha in sum_t alpha_t L_t.
    classes: C of "multiclass", 0 otherwise.
    low, high: the label's range for "regression": predictions are clipped to it.
    level:   "event": one label per row, predicted from z; "item": one label per distinct item of
             the batch, predicted from the item's vector; "user": one label per row, predicted from
             the user's vector alone.
    """

    name: str
    kind: Kind
    label: str
    loss: str = ""
    weight: float = 1.0
    classes: int = 0
    low: float | None = None
    high: float | None = None
    level: Level = "event"
