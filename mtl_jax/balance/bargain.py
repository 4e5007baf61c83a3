"""Nash-MTL and FairGrad: G w = w^(-1/alpha)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from mtl_jax.balance.gramian import correlation, over
from mtl_jax.balance.solvers import fair
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array

STATIONARY = 1e-6  # squared length of a convex combination of unit gradients that counts as 0


def fair_weights(stats: Stats, alpha: float) -> tuple[Array, dict[str, Array]]:
    """w [T] with G w = w^(-1/alpha), 0 where gradients cancel; residual and stationary.

    On C: w = u / d and C u = d^(1/alpha - 1) u^(-1/alpha), d first over its geometric mean m, which
    comes back in as the power of m that the method's homogeneity asks for.
    """
    assert stats.gram is not None
    c = correlation(stats.gram, stats.present)
    n = jnp.maximum(jnp.sum(c.active), 1)
    logs = jnp.where(c.active, jnp.log(jnp.where(c.active, c.d, 1.0)), 0.0)
    m = jnp.exp(jnp.sum(logs) / n)
    d = jnp.where(c.active, jnp.exp(logs - jnp.log(m)), 0.0)
    kappa = jnp.where(c.active, jnp.exp((1.0 / alpha - 1.0) * (logs - jnp.log(m))), 0.0)
    u, residual = fair(c.C, kappa, c.active, alpha)
    share = over(u, jnp.broadcast_to(jnp.sum(u), u.shape))
    stationary = share @ c.C @ share < STATIONARY
    # G scales as m^2, w as m^p with 2 + p = -p / alpha.
    scale = m ** (-2.0 / (1.0 + 1.0 / alpha))
    weights = jnp.where(stationary, 0.0, over(u, d) * scale)
    return weights, {"residual": residual, "stationary": stationary.astype(jnp.float32)}


@dataclass(frozen=True)
class Nash:
    """Nash-MTL (Navon et al., ICML 2022): the bargaining point G w = 1 / w.

    Free of every task's scale: the update has length sqrt(T), cut to `max_norm` (0: not cut).
    Where a convex combination of gradients is 0 there is no such point: weights 0, stationary 1.
    """

    max_norm: float = 1.0
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights; w'Gw = number of tasks with a gradient."""
        weights, info = fair_weights(stats, 1.0)
        if self.max_norm:
            c = correlation(stats.gram, stats.present)  # type: ignore[arg-type]
            length = jnp.sqrt(jnp.maximum(jnp.sum(c.active).astype(jnp.float32), 1.0))
            weights = weights * jnp.minimum(1.0, self.max_norm / length)
        return Update(weights, state, info)


@dataclass(frozen=True)
class FairGrad:
    """FairGrad (Ban and Ji, ICML 2024): alpha-fair, G w = w^(-1/alpha); 1 is Nash's point.

    Rising alpha favours the task that gains least. The update is homogeneous of degree
    (1/alpha - 1) / (1/alpha + 1).
    """

    alpha: float = 1.0
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights, 0 and stationary = 1 where a convex combination of gradients is 0."""
        weights, info = fair_weights(stats, self.alpha)
        return Update(weights, state, info)
