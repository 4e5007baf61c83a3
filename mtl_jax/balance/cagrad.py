"""CAGrad (Liu et al., NeurIPS 2021): the best worst task within a ball around the mean gradient."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from mtl_jax.balance.gramian import correlation, over, unit_norms
from mtl_jax.balance.solvers import farthest_level
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class CAGrad:
    """g0 + c |g0| g_w / |g_w|, g0 the mean, w on the simplex minimising <g_w, g0> + c |g0| |g_w|.

    Solved as its dual: the update within c |g0| of g0 whose least gain <g_t, update> is largest.

    c: radius of the ball over |g0|; 1 and above converge to Pareto points only.
    rescale: what the update is divided by: 0 nothing, 1 1 + c^2, 2 1 + c (LibMTL's default is 1).
    """

    c: float = 0.5
    rescale: Literal[0, 1, 2] = 0
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights 1/T + c |g0| w / |g_w|; the mean's where the mean is 0."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        d, _ = unit_norms(c.d, c.active)
        n = jnp.maximum(jnp.sum(stats.present), 1.0)
        b = jnp.where(c.active, c.C @ d, 0.0) / n
        mean = jnp.sqrt(jnp.maximum(jnp.dot(b, d) / n, 0.0))
        least = jnp.min(jnp.where(c.active, d, jnp.inf))
        a = over(jnp.broadcast_to(least, d.shape), d)
        # In units of |g0|; a task that is not active asks for nothing.
        b = jnp.where(c.active, over(b, jnp.broadcast_to(mean, b.shape)), 0.0)
        low = jnp.min(jnp.where(c.active, b / jnp.where(c.active, a, 1.0), jnp.inf))
        low = jnp.maximum(low, 0.0) if self.c >= 1.0 else low
        y, _, residual = farthest_level(c.C, a, b, jnp.float32(self.c), low)
        y = jnp.where(c.active, y, 0.0)
        length = jnp.sqrt(jnp.maximum(y @ c.C @ y, 0.0))
        y = mean * y * jnp.minimum(1.0, over(jnp.float32(self.c), length))
        weights = jnp.where(stats.present > 0, 1.0 / n + over(y, d), 0.0)
        by = {0: 1.0, 1: 1.0 + self.c**2, 2: 1.0 + self.c}[self.rescale]
        there = (mean > 3e-6) & (self.c > 0)  # else the update is the mean itself
        return Update(weights / by, state, {"residual": jnp.where(there, residual, 0.0)})
