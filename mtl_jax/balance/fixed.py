"""Weights that do not look at losses: fixed, or scheduled over steps."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class Fixed:
    """w_t = alpha_t: the weighted sum of losses, sum_t alpha_t L_t.

    weights: alpha [T]; a task that is absent from a batch gets 0.
    """

    weights: tuple[float, ...]

    def init(self, n_tasks: int) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """alpha * present."""
        return Update(jnp.asarray(self.weights, jnp.float32) * stats.present, state, {})


@dataclass(frozen=True)
class Scheduled:
    """w_t(step): linear between (step, factor) points times alpha_t, constant outside them.

    points: per task, a tuple of (step, factor) with rising steps; empty is factor 1 throughout.
    """

    weights: tuple[float, ...]
    points: tuple[tuple[tuple[float, float], ...], ...]

    def init(self, n_tasks: int) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """alpha * interpolated factor * present."""
        factors = [
            jnp.interp(stats.step.astype(jnp.float32), *map(jnp.asarray, zip(*p, strict=True)))
            if p
            else jnp.float32(1.0)
            for p in self.points
        ]
        alpha = jnp.asarray(self.weights, jnp.float32)
        return Update(alpha * jnp.stack(factors) * stats.present, state, {})
