"""Metrics of a regression task: labels [N] and predictions [N] in the label's unit."""

import numpy as np

from mtl_jax.metrics.base import Additive, AnyArray, FloatArray, Terms, floats, mean_of, mean_terms


def _error(y: AnyArray, prediction: AnyArray) -> FloatArray:
    return floats("prediction", prediction) - floats("label", y)


def _absolute(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    return mean_terms(np.abs(_error(y, prediction)))


def _squared(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    return mean_terms(_error(y, prediction) ** 2)


def _variance(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns: weight, y, y^2, squared error; y about its mean, so that the sums do not cancel."""
    labels = floats("label", y)
    centred = labels - labels.mean()
    return Terms(
        4,
        [
            (0, np.ones(len(labels))),
            (1, centred),
            (2, centred**2),
            (3, _error(y, prediction) ** 2),
        ],
    )


def _explained(c: FloatArray) -> FloatArray:
    rows, total, squares, error = np.moveaxis(c, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares - total**2 / rows
        # what rounding leaves of a constant label is no variance
        return np.where(spread > 1e-12 * squares, 1 - error / spread, np.nan)


# Mean absolute error.
mae = Additive("mae", _absolute, mean_of)
# Root of the mean squared error (over all rows, not a mean over users).
rmse = Additive("rmse", _squared, lambda c: np.sqrt(mean_of(c)))
# 1 - squared error / squared deviation from the mean label of the same rows.
r2 = Additive("r2", _variance, _explained, "the labels are all equal")
