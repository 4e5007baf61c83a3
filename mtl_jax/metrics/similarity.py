"""Metrics of a similarity task: labels [N] and predictions [N], probabilities or values."""

from dataclasses import dataclass

import numpy as np

from mtl_jax.metrics import regression
from mtl_jax.metrics.area import AreaUnderCurve
from mtl_jax.metrics.base import (
    Additive,
    AnyArray,
    FloatArray,
    IntArray,
    Prepared,
    Terms,
    Undefined,
    defined,
    floats,
    row_weights,
)

ONE_VALUE = "labels or predictions are all equal"


def _moments(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    """Columns: weight, a, b, a^2, b^2, ab of both about their means, so that nothing cancels."""
    a, b = floats("label", y), floats("prediction", prediction)
    a, b = a - a.mean(), b - b.mean()
    return Terms(6, list(enumerate((np.ones(len(a)), a, b, a**2, b**2, a * b))))


def _correlation(sums: FloatArray) -> FloatArray:
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_a, spread_b = aa - a**2 / n, bb - b**2 / n
        # what rounding leaves of a constant is no variance
        some = (spread_a > 1e-12 * aa) & (spread_b > 1e-12 * bb)
        return np.where(some, (ab - a * b / n) / np.sqrt(spread_a * spread_b), np.nan)


@dataclass(frozen=True)
class Spearman:
    """Pearson's correlation of the ranks; equal values share their mean rank."""

    name: str = "spearman"
    why: str = ONE_VALUE

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
        """One sort for all replicates; ranks of rows repeated w times follow from running sums."""
        named = (("label", y), ("prediction", prediction))
        levels = [np.unique(floats(*v), return_inverse=True)[1].reshape(-1) for v in named]

        def value(w: FloatArray) -> float:
            ranks = []
            for level in levels:
                mass = np.bincount(level, w)
                if (mass > 0).sum() < 2:
                    return float("nan")
                rank = (np.cumsum(mass) - mass / 2)[level]
                ranks.append(rank - w @ rank / w.sum())
            a, b = ranks
            return float(w @ (a * b) / np.sqrt((w @ a**2) * (w @ b**2)))

        return lambda counts: np.array([value(row[users]) for row in counts])

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        return len(y), ""


@dataclass(frozen=True)
class PairArea(AreaUnderCurve):
    """AUC where the labels are 0 to 1, undefined where they are other values."""

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        if np.min(y, initial=0.0) < 0 or np.max(y, initial=0.0) > 1:
            raise Undefined("auc is undefined: the labels are values, not 0 and 1")
        return super().__call__(y, prediction, weights, users)


pearson = Additive("pearson", _moments, _correlation, ONE_VALUE)
spearman = Spearman()
auc = PairArea()
rmse = regression.rmse
