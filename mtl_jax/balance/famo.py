"""FAMO (Liu et al., NeurIPS 2023): weights from how losses fell, without task gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import optax

from mtl_jax.balance.keep import keep_absent, softmax_of
from mtl_jax.balance.options import check_length
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array

EPS = 1e-8


@dataclass(frozen=True)
class FAMO:
    """Descends c sum_t z_t log D_t, z = softmax(w), D = L - floor + 1e-8, c = 1 / sum_t z_t / D_t.

    After the step, w follows by Adam the slope of sum_t z_t (log D_t - log D_t after), so that the
    task that fell least weighs more next time. One forward pass more; call `update` before the step
    (losses_after None: the state stays), and after it with both.

    learning_rate, decay: Adam's rate, and L2 added to its gradient (LibMTL 1e-3, the paper's code
        1e-5).
    floor: the lowest loss of each task, () is 0.
    """

    learning_rate: float = 0.025
    decay: float = 1e-3
    floor: tuple[float, ...] = ()
    needs: ClassVar[str] = "losses_after"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """w [T] and Adam's moments."""
        check_length("famo", "floor", self.floor, n_tasks)
        w = jnp.zeros((n_tasks,), jnp.float32)
        return {"w": w, "adam": optax.adam(self.learning_rate).init(w)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights z / (D sum z / D), from the w before this step."""
        present = stats.present
        low = jnp.asarray(self.floor, jnp.float32) if self.floor else 0.0
        w, z = state["w"], softmax_of(state["w"], present)

        def gap(losses: Array) -> Array:
            return jnp.where(present > 0, losses - low + EPS, 1.0)

        ratio = z / gap(stats.losses)
        weights = ratio / jnp.sum(ratio)
        weights = jnp.where(present > 0, weights, 0.0)
        info = {"z": z}
        if stats.losses_after is None:
            return Update(weights, state, info)
        fell = jnp.log(gap(stats.losses)) - jnp.log(gap(stats.losses_after))
        slope = z * (fell - jnp.sum(z * fell)) + self.decay * w
        delta, adam = optax.adam(self.learning_rate).update(slope, state["adam"])
        new = {"w": w + delta, "adam": adam}
        return Update(weights, keep_absent(present, new, state), info)
