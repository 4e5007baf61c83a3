"""One number for all losses, whose slope gives the weights: GLS and smooth Tchebycheff."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from mtl_jax.balance import epochs
from mtl_jax.balance.keep import present_mean, softmax_of
from mtl_jax.balance.options import check_length
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array

TINY = 1e-20  # a loss of 0 has no logarithm


@dataclass(frozen=True)
class GLS:
    """Geometric loss strategy (Chennupati et al., CVPR workshops 2019): exp(mean of log L).

    Weights exp(mean log L) / (T L_t); losses must be positive.
    """

    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The slope of the geometric mean over the present tasks."""
        logs = jnp.log(jnp.maximum(stats.losses, TINY))
        n = jnp.maximum(jnp.sum(stats.present), 1.0)
        weights = jnp.exp(present_mean(logs, stats.present) - logs) / n
        return Update(jnp.where(stats.present > 0, weights, 0.0), state, {})


@dataclass(frozen=True)
class STCH:
    """Smooth Tchebycheff scalarisation (Lin et al., ICML 2024).

    form "plain": mu log sum_t exp(p_t (L_t - z_t) / mu), as in the paper's eq. 6, with preferences
        p (1 / T where () is given) and the ideal point z (0 where () is given).
    form "log": T mu log sum_t exp(log(L_t / nadir_t) / mu), as the authors' multi-task code has it.
        Before and in epoch `warmup_epochs` the sum of log L_t; the nadir is the mean of that epoch.
    """

    form: Literal["plain", "log"] = "plain"
    mu: float = 1.0
    preference: tuple[float, ...] = ()
    ideal: tuple[float, ...] = ()
    warmup_epochs: int = 4
    steps_per_epoch: int = 1
    needs: ClassVar[str] = "losses"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Of "log": the sums of the epoch under way, and the nadir, 0 until it is known."""
        check_length("stch", "preference", self.preference, n_tasks)
        check_length("stch", "ideal", self.ideal, n_tasks)
        if self.form == "plain":
            return ()
        return {"now": epochs.start(n_tasks), "nadir": jnp.zeros((n_tasks,), jnp.float32)}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The slope of the scalarised loss."""
        present, losses = stats.present, stats.losses
        n = jnp.maximum(jnp.sum(present), 1.0)
        if self.form == "plain":
            p = jnp.asarray(self.preference, jnp.float32) if self.preference else present / n
            z = jnp.asarray(self.ideal, jnp.float32) if self.ideal else jnp.zeros_like(losses)
            return Update(p * softmax_of(p * (losses - z) / self.mu, present), state, {})
        now, nadir = state["now"], state["nadir"]
        epoch = epochs.epoch_of(stats, self.steps_per_epoch)
        warm = now.over(stats, self.steps_per_epoch) & (epoch > self.warmup_epochs)
        nadir = jnp.where(warm & (nadir == 0), now.mean(), nadir)
        safe = jnp.maximum(losses, TINY)
        known = (epoch > self.warmup_epochs) & (nadir > 0)
        level = jnp.log(safe / jnp.where(nadir > 0, nadir, 1.0))
        smooth = n * softmax_of(level / self.mu, present * known) / safe
        weights = jnp.where(known, smooth, 1.0 / safe)
        now = now.add(stats, self.steps_per_epoch)
        return Update(jnp.where(present > 0, weights, 0.0), {"now": now, "nadir": nadir}, {})
