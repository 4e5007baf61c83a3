"""Dynamic weight average (Liu, Johns, Davison; CVPR 2019)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from mtl_jax.balance import epochs
from mtl_jax.balance.keep import softmax_of
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class DWA:
    """T softmax(r / temperature), r_t = L_t of the last epoch over L_t of the one before.

    The first two epochs weigh all tasks alike, and so does a task without two epochs with labels
    (r = 1). steps_per_epoch: what a run passes; 1 compares single steps.
    """

    temperature: float = 2.0
    steps_per_epoch: int = 1
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = True

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Sums of the epoch under way, means of the two before (0 = unknown)."""
        last, before = jnp.zeros((2, n_tasks), jnp.float32)
        return {"now": epochs.start(n_tasks), "last": last, "before": before}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights that sum to the number of present tasks."""
        over = state["now"].over(stats, self.steps_per_epoch)
        last = jnp.where(over, state["now"].mean(), state["last"])
        before = jnp.where(over, state["last"], state["before"])
        known = (last > 0) & (before > 0)
        ratio = jnp.where(known, last / jnp.where(known, before, 1.0), 1.0)
        weights = jnp.sum(stats.present) * softmax_of(ratio / self.temperature, stats.present)
        now = state["now"].add(stats, self.steps_per_epoch)
        new = {"now": now, "last": last, "before": before}
        return Update(weights, new, {"ratio": ratio})
