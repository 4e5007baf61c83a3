"""Weights learned beside the model from the losses: uncertainty and IMTL-L."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import optax

from mtl_jax.balance.fixed import alpha_of
from mtl_jax.balance.keep import keep_absent
from mtl_jax.balance.options import check_length
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty weights (Kendall, Gal, Cipolla; CVPR 2018), learned beside the model.

    minimises sum_t alpha_t (L_t / (2 e^{s_t}) + s_t / 2) over s by Adam; the model sees the weights
    alpha_t / (2 e^{s_t}). The gradient in s_t is alpha_t (1 - L_t e^{-s_t}) / 2.

    weights: alpha [T], () is 1; start: s at step 0 (LibMTL starts at -.5); learning_rate: of Adam.
    """

    weights: tuple[float, ...] = ()
    start: float = 0.0
    learning_rate: float = 0.01
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """s [T] and Adam's moments."""
        check_length("uw", "weights", self.weights, n_tasks)
        s = jnp.full((n_tasks,), self.start, jnp.float32)
        return {"s": s, "adam": optax.adam(self.learning_rate).init(s)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights from the s before this step; an absent task's s stays as it is."""
        s, alpha = state["s"], alpha_of(self.weights, stats.present)
        gradient = 0.5 * alpha * (1.0 - stats.losses * jnp.exp(-s)) * stats.present
        delta, adam = optax.adam(self.learning_rate).update(gradient, state["adam"])
        weights = 0.5 * alpha * jnp.exp(-s) * stats.present
        new = {"s": s + delta, "adam": adam}
        return Update(weights, keep_absent(stats.present, new, state), {"s": s})


@dataclass(frozen=True)
class IMTLL:
    """IMTL's loss balance (Liu et al., ICLR 2021): minimises sum_t e^{s_t} L_t - s_t over s.

    The model sees the weights e^{s_t}, which tend to 1 / L_t. learning_rate: of Adam.
    """

    learning_rate: float = 0.01
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """s [T], at first 0, and Adam's moments."""
        s = jnp.zeros((n_tasks,), jnp.float32)
        return {"s": s, "adam": optax.adam(self.learning_rate).init(s)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights from the s before this step."""
        s = state["s"]
        gradient = (jnp.exp(s) * stats.losses - 1.0) * stats.present
        delta, adam = optax.adam(self.learning_rate).update(gradient, state["adam"])
        new = {"s": s + delta, "adam": adam}
        weights = jnp.exp(s) * stats.present
        return Update(weights, keep_absent(stats.present, new, state), {"s": s})
