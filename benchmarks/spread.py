"""Medians and spreads of interleaved samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile, number of samples."""

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    low, median, high = np.percentile(np.asarray(values, np.float64), [10, 50, 90])
    return Spread(float(median), float(low), float(high), len(values))


def ratio(above: Sequence[float | None], below: Sequence[float | None]) -> Spread | None:
    """Of above[i] / below[i] over the rounds i where both were measured; None if there are none."""
    pairs = [a / b for a, b in zip(above, below, strict=True) if a is not None and b is not None]
    return spread(pairs) if pairs else None
