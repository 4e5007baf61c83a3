"""MoDo and SDMGrad: weights from J1 J2' of two independent batches, whose noise is unbiased."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance.keep import keep_absent
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


def to_simplex(values: Array, present: Array) -> Array:
    """Euclidean projection on the simplex of the present tasks [T]."""
    low = jnp.min(jnp.where(present > 0, values, jnp.inf)) - 2.0
    projected = optax.projections.projection_simplex(jnp.where(present > 0, values, low))
    return jnp.where(present > 0, projected, 0.0)


def _uniform(n_tasks: int) -> Array:
    return jnp.full((n_tasks,), 1.0 / n_tasks, jnp.float32)


def _cross(stats: Stats) -> Array:
    assert stats.cross_gram is not None
    both = (stats.present[:, None] > 0) & (stats.present[None, :] > 0)
    return jnp.where(both, stats.cross_gram, 0.0)


@dataclass(frozen=True)
class MoDo:
    """MoDo (Chen et al., NeurIPS 2023): one projected step on the weights a step of the model.

    w <- simplex(w - gamma (J1 J2' w + rho w)); the update is w of the whole batch.
    """

    gamma: float = 0.1
    rho: float = 0.1
    needs: ClassVar[str] = "cross_gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Equal weights that sum to 1."""
        return _uniform(n_tasks)

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The new weights; those of absent tasks are 0 now and remembered."""
        slope = _cross(stats) @ state + self.rho * state
        w = to_simplex(state - self.gamma * slope, stats.present)
        return Update(w, keep_absent(stats.present, w, state), {})


@dataclass(frozen=True)
class SDMGrad:
    """SDMGrad (Xiao, Ban, Ji; NeurIPS 2023): MGDA's weights by SGD, drawn to the mean by `lam`.

    `iterations` projected steps with momentum on w'(J1 J2')(w / 2 + lam / T), J1 J2' first divided
    by the squared mean of the roots of its diagonal; weights (w + lam / T) / (1 + lam).
    """

    lam: float = 0.3
    iterations: int = 20
    learning_rate: float = 5.0
    momentum: float = 0.5
    needs: ClassVar[str] = "cross_gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Equal weights that sum to 1."""
        return _uniform(n_tasks)

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The new weights; w goes on from the step before."""
        A, present = _cross(stats), stats.present
        n = jnp.maximum(jnp.sum(present), 1.0)
        mean = present / n
        scale = jnp.sum(jnp.sqrt(jnp.maximum(jnp.diagonal(A), 0.0))) / n
        A = A / jnp.where(scale > 0, jnp.square(scale), 1.0)

        def step(_: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            w, velocity = at
            velocity = self.momentum * velocity + A @ (w + self.lam * mean)
            return to_simplex(w - self.learning_rate * velocity, present), velocity

        w, _ = jax.lax.fori_loop(0, self.iterations, step, (state, jnp.zeros_like(state)))
        weights = (w + self.lam * mean) / (1.0 + self.lam)
        return Update(weights, keep_absent(present, w, state), {"w": w})
