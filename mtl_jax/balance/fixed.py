"""Weights that do not look at losses: equal or fixed, scheduled over steps, random."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mtl_jax.balance.keep import softmax_of
from mtl_jax.balance.options import check_length
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array


def alpha_of(weights: tuple[float, ...], like: Array) -> Array:
    """`weights` [T] as an array; ones where none are given."""
    return jnp.asarray(weights, jnp.float32) if weights else jnp.ones_like(like)


@dataclass(frozen=True)
class Fixed:
    """w_t = alpha_t: the weighted sum of losses, sum_t alpha_t L_t.

    weights: alpha [T], () is 1 for all (equal weights); an absent task gets 0.
    """

    weights: tuple[float, ...] = ()
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        check_length("ew", "weights", self.weights, n_tasks)
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """alpha * present."""
        return Update(alpha_of(self.weights, stats.present) * stats.present, state, {})


@dataclass(frozen=True)
class Scheduled:
    """w_t(step): linear between (step, factor) points times alpha_t, constant outside them.

    points: per task, a tuple of (step, factor) with rising steps; empty is factor 1 throughout.
    """

    weights: tuple[float, ...]
    points: tuple[tuple[tuple[float, float], ...], ...]
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        check_length("scheduled", "weights", self.weights, n_tasks)
        check_length("scheduled", "points", self.points, n_tasks)
        for steps in ([step for step, _ in p] for p in self.points):
            if steps != sorted(set(steps)):
                raise UserError(f"balancer 'scheduled': points: the steps {steps} do not rise")
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


@dataclass(frozen=True)
class RLW:
    """Random loss weights: softmax of N(0, 1) over the present tasks (Lin et al., TMLR 2022)."""

    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights that sum to 1; all of the randomness is `key`."""
        drawn = jax.random.normal(key, stats.present.shape)
        return Update(softmax_of(drawn, stats.present), state, {})
