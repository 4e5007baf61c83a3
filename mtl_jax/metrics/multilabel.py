"""Metrics of a multi-label task: labels 0/1 [N, C], NaN = unknown, and probabilities [N, C].

Only known labels count. A label is called when p >= 0.5. Means over labels ("macro") are over
those for which the value exists: AUC needs both classes, F1 a label or a call.
"""

from dataclasses import dataclass

import numpy as np

from mtl_jax.metrics.area import auc
from mtl_jax.metrics.base import (
    Additive,
    AnyArray,
    FloatArray,
    IntArray,
    Prepared,
    Terms,
    defined,
    mean_of,
    mean_terms,
    ratio,
    row_weights,
)
from mtl_jax.metrics.binary import THRESHOLD, probabilities
from mtl_jax.metrics.multiclass import macro_f1


def _read(y: AnyArray, prediction: AnyArray) -> tuple[AnyArray, AnyArray, FloatArray]:
    """(label is 1, label is known, probabilities), each [N, C]; ValueError for other values."""
    labels, p = np.asarray(y, np.float64), probabilities(prediction)
    if p.ndim != 2 or labels.shape != p.shape:
        raise ValueError(f"labels and predictions are both [N, C], not {labels.shape}, {p.shape}")
    bad = ~np.isin(labels, (0.0, 1.0)) & ~np.isnan(labels)
    if bad.any():
        row, label = np.argwhere(bad)[0]
        raise ValueError(f"label {label} of row {row} is {labels[row, label]}, not 0, 1 or NaN")
    return labels == 1, ~np.isnan(labels), p


@dataclass(frozen=True)
class LabelArea:
    """AUC of every label, averaged over labels that have both classes ("macro"), or of all known
    (row, label) pairs as one ("micro")."""

    name: str
    macro: bool
    why: str = "it needs a label with rows of both classes"

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        w = row_weights(weights, len(y))
        values = self.prepare(y, prediction, np.arange(len(y)), len(y))(w[None])
        return defined(float(values[0]), self.name, self.why)

    def prepare(self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int) -> Prepared:
        one, known, p = _read(y, prediction)
        each = np.broadcast_to(users[:, None], known.shape)
        parts = [slice(c, c + 1) for c in range(known.shape[1])] if self.macro else [slice(None)]
        areas = []
        for part in parts:
            k = known[:, part]
            areas.append(auc.prepare(one[:, part][k], p[:, part][k], each[:, part][k], n_users))

        def values(counts: FloatArray) -> FloatArray:
            found = np.stack([area(counts) for area in areas])
            return ratio(np.nansum(found, axis=0), (~np.isnan(found)).sum(axis=0))

        return values

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        return len(y), ""


def _confusion(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns, C of each: rightly called; called; labels that are 1. (As `multiclass`.)"""
    one, known, p = _read(y, prediction)
    called = known & (p >= THRESHOLD)
    counts = np.concatenate([called & one, called, one], axis=1).astype(np.float64)
    return Terms(counts.shape[1], [(c, counts[:, c]) for c in range(counts.shape[1])])


def _micro(sums: FloatArray) -> FloatArray:
    right, called, own = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1).sum(-1), -1, 0)
    return ratio(2 * right, called + own)


def _wrong(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns: known labels, those that are called wrongly."""
    one, known, p = _read(y, prediction)
    wrong = known & ((p >= THRESHOLD) != one)
    return Terms(2, [(0, known.sum(1).astype(np.float64)), (1, wrong.sum(1).astype(np.float64))])


def _exact(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    one, known, p = _read(y, prediction)
    right = ~known | ((p >= THRESHOLD) == one)
    return mean_terms(right.all(axis=1).astype(np.float64))


def _ranking(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    one, known, p = _read(y, prediction)
    precision = np.zeros(len(p))
    for c in range(p.shape[1]):
        above = known & (p >= p[:, [c]])
        share = (above & one).sum(axis=1) / np.maximum(above.sum(axis=1), 1)
        precision += np.where(one[:, c], share, 0.0)
    ones = one.sum(axis=1)
    some = (ones > 0) & (ones < known.sum(axis=1))
    return mean_terms(np.where(some, precision / np.maximum(ones, 1), 1.0))


auc_macro = LabelArea("auc_macro", macro=True)
auc_micro = LabelArea("auc_micro", macro=False)
f1_macro = Additive("f1_macro", _confusion, macro_f1, "no label is 1 or called")
f1_micro = Additive("f1_micro", _confusion, _micro, "no label is 1 or called")
# Share of rows whose known labels are all called rightly.
subset_accuracy = Additive("subset_accuracy", _exact, mean_of)
# Share of known labels that are called wrongly.
hamming_loss = Additive("hamming_loss", _wrong, mean_of)
# Mean over rows of the mean over labels that are 1 of (ones at or above it) / (labels at or above
# it); equal probabilities share the worst rank; a row of zeros or of ones alone counts as 1.
label_ranking_precision = Additive("label_ranking_precision", _ranking, mean_of)
