"""Queries and items of the ranking benchmark, drawn the same on both sides."""

from dataclasses import dataclass
from typing import Any

import numpy as np

HostArray = np.ndarray[Any, np.dtype[Any]]
BLOCK = 256  # queries scored at a time, as in `mtl_jax.metrics.ranks.blocked_ranks`


@dataclass(frozen=True)
class Ranking:
    """queries [Q, D], keys [N, D], bias [N], targets [Q]; item 0 is no candidate."""

    queries: HostArray
    keys: HostArray
    bias: HostArray
    targets: HostArray

    @property
    def operations(self) -> float:
        """Of the product of queries and keys."""
        return 2.0 * len(self.queries) * self.keys.size


def draw(queries: int, items: int, width: int) -> Ranking:
    """Normal vectors, uniform targets."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> HostArray:
        return rng.standard_normal(shape).astype(np.float32)

    return Ranking(
        normal(queries, width), normal(items, width), normal(items),
        rng.integers(1, items, queries),
    )  # fmt: skip
