"""What a task is, before any code knows how to learn it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "binary", "multilabel", "multiclass", "ordinal", "regression", "similarity", "retrieval"
]
Level = Literal["event", "item", "user"]
How = Literal["cosine", "cross"]


@dataclass(frozen=True)
class TaskSpec:
    """One task: which label it learns, as what, and how much it counts.

    name:    its name in losses, metrics and outputs.
    kind:    "binary"     a logit; labels 0 and 1, or probabilities (a value label within 0..1).
             "multilabel" C logits, one for each of the 0/1 `labels` of a row.
             "multiclass" C logits; hard or soft labels.
             "ordinal"    the C = high - low + 1 levels low, low + 1, .., high by cumulative links.
             "regression" one value in the label's unit.
             "similarity" of two texts, see `how`: a logit, or with low and high a value.
             "retrieval"  the row's item against all items.
    label:   the label column of the prepared events (or items, level "item"); a missing label
             (NaN) is masked out of loss, gradient and metric.
    loss:    a key of `mtl_jax.tasks.losses.LOSSES`; "" is the kind's default.
    weight:  the task's initial weight alpha in sum_t alpha_t L_t.
    classes: C of "multiclass" (and of "multilabel" on an item's tags), 0 otherwise.
    low, high: the label's range for "regression" and "similarity": predictions are clipped to it;
             the first and last level of "ordinal".
    level:   "event": one label per row, predicted from z; "item": one label per distinct item of
             the batch, predicted from the item's vector; "user": one label per row, predicted from
             the user's vector alone.
    labels:  of "multilabel": the C binary label columns, in place of `label`. Each is masked alone.
    how:     of "similarity". "cosine": of the texts of the row's item and of its `other` item.
             "cross": read off the row's item, whose text is the pair (`data.template_pair`).
    smooth:  label smoothing, y -> (1 - smooth) y + smooth / C, C = 2 for 0/1 labels.
    gamma:   focal loss, times (1 - p_t)^gamma (Lin et al., ICCV 2017); 0 is the plain loss.
    class_weights: a row's loss times the weight of its class, sum_c y_c w_c for soft labels: C of
             them; (negative, positive) for "binary"; these two of each label in turn for
             "multilabel". The loss stays the sum over labelled rows by their *number*.
    balanced: class weights n / (C n_c) from the n training rows, C the classes that occur.
    """

    name: str
    kind: Kind
    label: str = ""
    loss: str = ""
    weight: float = 1.0
    classes: int = 0
    low: float | None = None
    high: float | None = None
    level: Level = "event"
    labels: tuple[str, ...] = ()
    how: How = "cosine"
    smooth: float = 0.0
    gamma: float = 0.0
    class_weights: tuple[float, ...] = ()
    balanced: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns that it reads."""
        return self.labels or (self.label,)

    @property
    def size(self) -> int:
        """C: classes, levels or labels; 1 where the output is one number."""
        if self.kind == "ordinal" and self.low is not None and self.high is not None:
            return round(self.high - self.low) + 1
        return len(self.labels) or max(self.classes, 1)

    @property
    def probability(self) -> bool:
        """Whether output, label and prediction are a logit, 0 to 1, and a probability."""
        return self.kind == "binary" or (self.kind == "similarity" and self.low is None)
