"""What a metric is: a callable with row weights that can also be prepared for a bootstrap.

Row weights mean repetition: weight 2 on a row gives the value of the data with that row twice,
weight 0 that of the data without it. A bootstrap over users is then a row weight, the number of
times the row's user was drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
AnyArray = NDArray[Any]
# counts [R, U] (how often replicate r drew user u) -> values [R], NaN where undefined
Prepared = Callable[[FloatArray], FloatArray]
# (column, value): value [N] is added to sums[column]; column is one number or an array [N]
Term = tuple[int | IntArray, FloatArray]


class Undefined(ValueError):
    """The metric has no value on these rows (for example AUC of one class); the text says why."""


class Metric(Protocol):
    """A callable `metric(y, prediction, weights=None, users=None) -> float`.

    y: labels [N]; prediction: [N], or [N, C] for multi-class; weights: [N], at least 0;
    users: [N], read only by grouped metrics. Raises Undefined where there is no value and
    ValueError for labels or predictions that cannot be.
    """

    @property
    def name(self) -> str: ...
    @property
    def why(self) -> str: ...
    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float: ...
    def prepare(
        self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int
    ) -> Prepared: ...
    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        """(rows that enter the value, a note on those that do not or "")."""
        ...


def floats(name: str, values: AnyArray) -> FloatArray:
    """`values` as float64; ValueError naming the first row that is NaN."""
    array: FloatArray = np.asarray(values, dtype=np.float64)
    bad = np.isnan(array)
    if bad.any():
        raise ValueError(f"{name} of row {np.argwhere(bad)[0][0]} is NaN; mask such rows out")
    return array


def row_weights(weights: AnyArray | None, n: int) -> FloatArray:
    """`weights` as float64 [n], ones for None; ValueError if negative, not finite or not [n]."""
    if weights is None:
        return np.ones(n)
    array: FloatArray = np.asarray(weights, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"weights have shape {array.shape}, the labels have {n} rows")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("weights must be finite and not negative")
    return array


def user_index(users: AnyArray) -> tuple[IntArray, int]:
    """Users of any type [N] -> (dense index [N] in 0..U-1, U), in sorted order of the users."""
    distinct, index = np.unique(np.asarray(users), return_inverse=True)
    return index.reshape(-1).astype(np.int64), len(distinct)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """numerator / denominator, NaN where the denominator is 0."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    result: FloatArray = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def defined(value: float, name: str, why: str) -> float:
    """`value` unless NaN, else Undefined(why)."""
    if np.isnan(value):
        raise Undefined(f"{name} is undefined: {why}")
    return float(value)


@dataclass(frozen=True)
class Terms:
    """Per-row statistics, sparse: each row adds `value` to one column of K per term."""

    columns: int
    terms: Sequence[Term]


@dataclass(frozen=True)
class Additive:
    """A metric that is a function of weighted sums of per-row statistics.

    statistics(y, prediction, weights) gives the Terms (weights matter only where bins are chosen
    by mass); finish(sums [..., K]) -> [...] gives the value, NaN where undefined. Sums add over
    users, so R replicates cost one [R, U] @ [U, K] product.
    """

    name: str
    statistics: Callable[[AnyArray, AnyArray, FloatArray], Terms]
    finish: Callable[[FloatArray], FloatArray]
    why: str = "no rows with weight"

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        w = row_weights(weights, len(y))
        if not w.any():
            raise Undefined(f"{self.name} is undefined: no rows with weight")
        found = self.statistics(y, prediction, w)
        sums = np.zeros(found.columns)
        for column, value in found.terms:
            place = np.broadcast_to(np.asarray(column, dtype=np.int64), value.shape)
            sums += np.bincount(place, value * w, minlength=found.columns)
        return defined(float(self.finish(sums)), self.name, self.why)

    def prepare(self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int) -> Prepared:
        found = self.statistics(y, prediction, np.ones(len(y)))
        sums = np.zeros(n_users * found.columns)
        for column, value in found.terms:
            sums += np.bincount(users * found.columns + column, value, minlength=len(sums))
        table = sums.reshape(n_users, found.columns)
        return lambda counts: np.atleast_1d(self.finish(counts @ table))

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        return len(y), ""


@dataclass(frozen=True)
class RowWeighted:
    """A metric from any function (y, prediction, weights) -> float; slow: a call per replicate."""

    name: str
    function: Callable[[AnyArray, AnyArray, FloatArray], float]
    why: str = "the function gave NaN"

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        value = self.function(y, prediction, row_weights(weights, len(y)))
        return defined(float(value), self.name, self.why)

    def prepare(self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int) -> Prepared:
        def values(counts: FloatArray) -> FloatArray:
            return np.array([self._value(y, prediction, row[users]) for row in counts])

        return values

    def _value(self, y: AnyArray, prediction: AnyArray, weights: FloatArray) -> float:
        try:
            return float(self.function(y, prediction, weights))
        except Undefined:
            return float("nan")

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        return len(y), ""


def mean_of(columns: FloatArray) -> FloatArray:
    """The finish of a mean: sums [..., 2] of (weight, weighted value) -> value."""
    return ratio(columns[..., 1], columns[..., 0])


def mean_terms(values: FloatArray) -> Terms:
    """The Terms whose `mean_of` is the weighted mean of `values` [N]."""
    return Terms(2, [(0, np.ones(len(values))), (1, values)])


# The mean of per-row values given as predictions (a query's NDCG, say); labels are not read.
MEAN = Additive("mean", lambda y, prediction, weights: mean_terms(prediction), mean_of)
