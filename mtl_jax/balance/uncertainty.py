"""Uncertainty weights (Kendall, Gal, Cipolla; CVPR 2018), learned beside the model.

minimises sum_t alpha_t (L_t / (2 e^{s_t}) + s_t / 2) over s by Adam; the model sees the weights
alpha_t / (2 e^{s_t}). The gradient in s_t is alpha_t (1 - L_t e^{-s_t}) / 2.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class Uncertainty:
    """weights: alpha [T]; start: s at step 0; learning_rate: of Adam on s."""

    weights: tuple[float, ...]
    start: float = 0.0
    learning_rate: float = 0.01

    def init(self, n_tasks: int) -> Any:
        """s [T] and Adam's moments."""
        s = jnp.full((n_tasks,), self.start, jnp.float32)
        return {"s": s, "adam": optax.adam(self.learning_rate).init(s)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights from the s before this step; an absent task's s stays as it is."""
        s, alpha = state["s"], jnp.asarray(self.weights, jnp.float32)
        gradient = 0.5 * alpha * (1.0 - stats.losses * jnp.exp(-s)) * stats.present
        delta, adam = optax.adam(self.learning_rate).update(gradient, state["adam"])
        weights = 0.5 * alpha * jnp.exp(-s) * stats.present

        def keep_absent(new: Array, old: Array) -> Array:
            """Momentum would move an absent task too; only Adam's count goes on."""
            return jnp.where(stats.present > 0, new, old) if new.ndim else new

        new = {"s": s + delta, "adam": adam}
        return Update(weights, jax.tree.map(keep_absent, new, state), {"s": s})
