"""Metrics of a binary task: labels 0/1 [N], predictions probabilities [N] (AUCs: any scores).

A soft label y counts as a row of label 1 with weight y and one of label 0 with weight 1 - y; where
a metric compares p with y (Brier, calibration) it is compared with y itself.

Every one is called `metric(y, prediction, weights=None, users=None)`; see `base.Metric`.
"""

import numpy as np

from mtl_jax.metrics.area import auc, binary_labels, grouped_auc
from mtl_jax.metrics.base import (
    Additive,
    AnyArray,
    FloatArray,
    IntArray,
    Terms,
    floats,
    mean_of,
    mean_terms,
    ratio,
)

__all__ = [
    "accuracy",
    "auc",
    "brier",
    "calibration_error",
    "calibration_error_mass",
    "f1",
    "grouped_auc",
    "log_loss",
    "precision",
    "recall",
]

THRESHOLD = 0.5
BINS = 15
EPSILON = float(np.finfo(np.float64).eps)  # 2.2e-16, scikit-learn's for float64


def probabilities(prediction: AnyArray) -> FloatArray:
    """Predictions as float64; ValueError naming the first outside [0, 1]."""
    p = floats("prediction", prediction)
    bad = (p < 0) | (p > 1)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise ValueError(f"prediction of row {row} is {p[row]}, not a probability")
    return p


def _log_loss(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = binary_labels(y), np.clip(probabilities(prediction), EPSILON, 1 - EPSILON)
    return mean_terms(-labels * np.log(p) - (1 - labels) * np.log1p(-p))


def _brier(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    return mean_terms((probabilities(prediction) - binary_labels(y)) ** 2)


def _confusion(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns: 2 y + (p >= 0.5), that is true -, false +, false -, true +."""
    says = probabilities(prediction) >= THRESHOLD
    labels, cell = binary_labels(y), says.astype(np.int64)
    return Terms(4, [(cell, 1 - labels), (2 + cell, labels)])


def _f1(c: FloatArray) -> FloatArray:
    return ratio(2 * c[..., 3], 2 * c[..., 3] + c[..., 1] + c[..., 2])


def _calibration(y: AnyArray, p: FloatArray, bins: IntArray) -> Terms:
    """Columns 2b: rows of bin b; 2b + 1: sum of (p - y) in bin b."""
    gap = p - binary_labels(y)
    return Terms(2 * BINS, [(2 * bins, np.ones(len(p))), (2 * bins + 1, gap)])


def equal_width(p: FloatArray) -> IntArray:
    """Bin of each p: BINS bins of [0, 1], closed above, as `sklearn.calibration_curve`'s."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], p).astype(np.int64)


def equal_mass(p: FloatArray, weights: FloatArray) -> IntArray:
    """Bin of each p: BINS bins of equal weight; equal values share a bin (that of their middle)."""
    _, level = np.unique(p, return_inverse=True)
    mass = np.bincount(level.reshape(-1), weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.minimum(np.floor(middle * BINS), BINS - 1).astype(np.int64)[level.reshape(-1)]


def _by_width(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    p = probabilities(prediction)
    return _calibration(y, p, equal_width(p))


def _by_mass(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    p = probabilities(prediction)
    return _calibration(y, p, equal_mass(p, weights))


def _expected_gap(c: FloatArray) -> FloatArray:
    return ratio(np.abs(c[..., 1::2]).sum(axis=-1), c[..., ::2].sum(axis=-1))


# Mean of -log p(y), p first clipped to [2.2e-16, 1 - 2.2e-16].
log_loss = Additive("log_loss", _log_loss, mean_of)
# Mean of (p - y)^2.
brier = Additive("brier", _brier, mean_of)
# The four below call a row positive when p >= 0.5.
accuracy = Additive("accuracy", _confusion, lambda c: ratio(c[..., 0] + c[..., 3], c.sum(axis=-1)))
precision = Additive(
    "precision",
    _confusion,
    lambda c: ratio(c[..., 3], c[..., 3] + c[..., 1]),
    "no row has a probability of at least 0.5",
)
recall = Additive(
    "recall",
    _confusion,
    lambda c: ratio(c[..., 3], c[..., 3] + c[..., 2]),
    "no row is of the positive class",
)
f1 = Additive("f1", _confusion, _f1, "no row is positive, in the labels or in the predictions")
# Expected calibration error: sum over bins of (rows of bin / rows) |mean p - mean y|, 15 bins.
# Bins of equal width; of equal mass. A bootstrap keeps the equal-mass bins of the whole sample.
calibration_error = Additive("calibration_error", _by_width, _expected_gap)
calibration_error_mass = Additive("calibration_error_mass", _by_mass, _expected_gap)
