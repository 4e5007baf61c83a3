"""Whether a difference between two methods is more than chance: over seeds, and over users.

Two sources of chance, two tests. Seeds: training again gives another model; paired t over seeds.
Users: other people would have come; paired bootstrap over users of the difference averaged over
seeds. Many comparisons at once: Holm's step-down correction.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy import special  # type: ignore[import-untyped]  # comes with jax

from mtl_jax.metrics.base import AnyArray, FloatArray
from mtl_jax.metrics.bootstrap import interval

ALPHA = 0.05  # 1 - LEVEL, exactly


class Difference(TypedDict):
    """value with its 95 % interval low..high and two-sided p (None where undefined: `why`)."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    why: str


def mean_t(values: AnyArray) -> Difference:
    """Mean of values [n] with Student's t interval, and p of "the mean is 0".

    n - 1 degrees of freedom. One value has a mean and nothing else. Where all values are equal the
    interval is a point and p is 0 (1 if they are 0), the limits of the formula.
    """
    x = np.asarray(values, np.float64)
    n = len(x)
    if not n:
        raise ValueError("a mean of no values")
    mean = float(x.mean())
    if n == 1:
        return Difference(value=mean, low=None, high=None, p=None, why="one seed: no interval")
    error = float(x.std(ddof=1) / np.sqrt(n))
    half = float(special.stdtrit(n - 1, 1 - ALPHA / 2)) * error
    if error == 0:
        p = float(mean == 0)
    else:
        p = float(2 * special.stdtr(n - 1, -abs(mean) / error))
    return Difference(value=mean, low=mean - half, high=mean + half, p=p, why="")


def paired_t(ours: AnyArray, theirs: AnyArray) -> Difference:
    """Mean of ours - theirs [n], pair by pair (same seed, same order of rows): see `mean_t`."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal numbers of values, not {a.shape} and {b.shape}")
    return mean_t(a - b)


def bootstrap_p(values: FloatArray) -> float:
    """Two-sided p of "the difference is 0" from its replicates [n], NaN ones left out.

    2 min(P(d <= 0), P(d >= 0)), each share counted with one more replicate on its side, so that it
    is never 0 (Davison and Hinkley, 1997, section 4.2).
    """
    good = values[np.isfinite(values)]
    below, above = int((good <= 0).sum()), int((good >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(good)))


def over_users(value: float, ours: FloatArray, theirs: FloatArray, n_users: int) -> Difference:
    """The difference averaged over seeds, with the interval of the draws of users.

    value: the difference on all rows. ours, theirs [S, n]: a metric of S seeds in n replicates, all
    on the same draws. Differences are averaged over seeds inside each replicate: the models are
    as they were trained, only who is asked changes.
    """
    replicates = (ours - theirs).mean(axis=0)
    low, high, why = interval(replicates, n_users)
    p = None if low is None else bootstrap_p(replicates)
    return Difference(value=value, low=low, high=high, p=p, why=why)


def both(*p: float | None) -> float | None:
    """The largest p that is defined: significant only where every test says so.

    The null hypothesis is that *some* source of chance explains the difference, a union; rejecting
    it where all tests reject keeps the level (intersection-union test; Berger, 1982).
    """
    known = [value for value in p if value is not None]
    return max(known) if known else None


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted by Holm's step-down (Scandinavian Journal of Statistics, 1979).

    The i-th smallest of m, from 0, is multiplied by m - i, made no smaller than those before it,
    and cut at 1. None is no test and does not count.
    """
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    found: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        found[i] = largest
    return found
