"""Metrics of an ordinal task: levels [N] in 0..C-1 and probabilities [N, C].

The level said is the first of the most probable ones. Errors are in levels.
"""

import numpy as np

from mtl_jax.metrics import multiclass
from mtl_jax.metrics.base import (
    Additive,
    AnyArray,
    FloatArray,
    IntArray,
    Terms,
    mean_of,
    mean_terms,
    ratio,
)


def _read(y: AnyArray, prediction: AnyArray) -> tuple[IntArray, FloatArray]:
    """Levels, and probabilities that sum to 1."""
    labels, p = multiclass.read(y, prediction)
    return labels, p / p.sum(axis=1, keepdims=True)


def _expected_error(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = _read(y, prediction)
    return mean_terms(np.abs(p @ np.arange(p.shape[1]) - labels))


def _median_error(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = _read(y, prediction)
    median = (np.cumsum(p, axis=1)[:, :-1] < 0.5).sum(axis=1)
    return mean_terms(np.abs(median - labels).astype(np.float64))


def _ranked(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = _read(y, prediction)
    below = labels[:, None] <= np.arange(p.shape[1] - 1)
    gap = np.cumsum(p, axis=1)[:, :-1] - below
    return mean_terms((gap**2).mean(axis=1))


def _moments(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns: weight, (y - said)^2, y, said, y^2 + said^2."""
    labels, p = _read(y, prediction)
    a, b = labels.astype(np.float64), p.argmax(axis=1).astype(np.float64)
    columns = (np.ones(len(a)), (a - b) ** 2, a, b, a**2 + b**2)
    return Terms(5, list(enumerate(columns)))


def _kappa(sums: FloatArray) -> FloatArray:
    rows, error, a, b, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        by_chance = squares - 2 * a * b / rows
    # what rounding leaves of one level throughout is no disagreement
    return 1 - ratio(error, np.where(by_chance > 1e-12 * rows, by_chance, 0.0))


accuracy = multiclass.accuracy
log_loss = multiclass.log_loss
# Mean absolute error of the expected level, and of the median: the first with P(y <= k) >= 1/2.
mae = Additive("mae", _expected_error, mean_of)
mae_median = Additive("mae_median", _median_error, mean_of)
# 1 - sum (y - said)^2 / what it would be were the two independent (Cohen, Psych. Bull. 1968).
quadratic_kappa = Additive(
    "quadratic_kappa", _moments, _kappa, "labels and predictions are one level"
)
# Mean over rows and thresholds of (P(y <= k) - [y <= k])^2 (Epstein, J. Appl. Meteorol. 1969).
ranked_probability_score = Additive("ranked_probability_score", _ranked, mean_of)
