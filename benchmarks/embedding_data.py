"""The model and the data of the embedding benchmark, in numpy: one source for both sides.

One table of N rows; 4096 rows of 20 look-ups, their mean -> 128 -> a logit with binary cross
entropy. Whatever N, a batch touches the same number of distinct rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

HostArray = np.ndarray[Any, np.dtype[Any]]  # the peer's process may have neither jax nor mtl_jax
WIDTH, HIDDEN = 64, 128
BATCHES = 4


@dataclass(frozen=True)
class World:
    """rows: N; batch: B; lookups: of each row of the batch; distinct: R, rows that it touches."""

    rows: int
    batch: int = 4096
    lookups: int = 20
    distinct: int = 40_960


def weights(seed: int = 0) -> dict[str, HostArray]:
    """kernels [in, out] and biases [out] of both layers; He's normal, as float32."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((WIDTH, HIDDEN), np.float32) * np.float32(np.sqrt(2 / WIDTH))
    second = rng.standard_normal((HIDDEN, 1), np.float32) * np.float32(np.sqrt(2 / HIDDEN))
    zeros = np.zeros(HIDDEN, np.float32), np.zeros(1, np.float32)
    return {"0/kernel": first, "0/bias": zeros[0], "1/kernel": second, "1/bias": zeros[1]}


def table(world: World) -> HostArray:
    """[N, 64] float32: one block of 8192 random rows, over and over."""
    block = np.random.default_rng(1).standard_normal((8192, WIDTH), np.float32)
    return np.resize(block, (world.rows, WIDTH))


def batches(world: World, seed: int = 2) -> list[dict[str, HostArray]]:
    """ids [B, L] int64, each of R distinct ones at least once; label [B] float32."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(BATCHES):
        distinct = rng.choice(world.rows, world.distinct, replace=False)
        again = rng.choice(distinct, world.batch * world.lookups - world.distinct)
        ids = rng.permutation(np.concatenate([distinct, again]))
        label = (rng.random(world.batch) < 0.3).astype(np.float32)
        found.append({"ids": ids.reshape(world.batch, world.lookups), "label": label})
    return found
