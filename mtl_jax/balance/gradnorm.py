"""GradNorm (Chen et al., ICML 2018): gradient norms pulled to a common rate of training."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance import epochs
from mtl_jax.balance.gramian import whole
from mtl_jax.balance.keep import keep_absent, present_mean, softmax_of
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class GradNorm:
    """w = T softmax(s); s follows by Adam the slope of sum_t | w_t |g_t| - target_t |.

    target_t = mean_s(w_s |g_s|) r_t^alpha, held constant; r_t = (L_t / L0_t) over its mean, L0 the
    mean loss of epoch 0, during which all tasks weigh 1. Of the Gramian only the diagonal is read.
    """

    alpha: float = 1.5
    learning_rate: float = 0.01
    steps_per_epoch: int = 1
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def _adam(self) -> optax.GradientTransformation:
        """Its eps is too small to tell any scale of gradients from another."""
        return optax.adam(self.learning_rate, eps=1e-20)

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """s [T], Adam's moments, the sums of epoch 0 and L0 (0 = unknown)."""
        s = jnp.zeros((n_tasks,), jnp.float32)
        adam = self._adam().init(s)
        return {"s": s, "adam": adam, "now": epochs.start(n_tasks), "first": jnp.zeros_like(s)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The weights from the s before this step."""
        assert stats.gram is not None
        present = stats.present
        norm = jnp.sqrt(jnp.diagonal(whole(stats.gram)))
        norm = jnp.where(present > 0, norm, 0.0)
        now: epochs.Epochs = state["now"]
        over = now.over(stats, self.steps_per_epoch) & (state["first"] == 0)
        first = jnp.where(over, now.mean(), state["first"])
        learning = (epochs.epoch_of(stats, self.steps_per_epoch) > 0).astype(jnp.float32)

        def weights_of(s: Array) -> Array:
            return jnp.sum(present) * softmax_of(s, present)

        weights = weights_of(state["s"])
        fall = jnp.where(first > 0, stats.losses / jnp.where(first > 0, first, 1.0), 1.0)
        rate = fall / jnp.maximum(present_mean(fall, present), 1e-12)
        target = present_mean(weights * norm, present) * rate**self.alpha

        def miss(s: Array) -> Array:
            return jnp.sum(jnp.where(present > 0, jnp.abs(weights_of(s) * norm - target), 0.0))

        slope = jax.grad(miss)(state["s"])
        delta, adam = self._adam().update(slope * learning, state["adam"])
        kept = jax.tree.map(lambda n, o: jnp.where(learning > 0, n, o), adam, state["adam"])
        new = {"s": state["s"] + delta * learning, "adam": kept}
        old = {"s": state["s"], "adam": state["adam"]}
        new = keep_absent(present, new, old)
        new |= {"now": now.add(stats, self.steps_per_epoch), "first": first}
        return Update(weights, new, {"rate": rate})
