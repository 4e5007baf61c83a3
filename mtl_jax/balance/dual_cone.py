"""Projections onto the dual cone {x: <g_t, x> >= 0 for all t}: UPGrad, DualProj; and PCD."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mtl_jax.balance.gramian import correlation, over, unit_norms
from mtl_jax.balance.keep import keep_absent
from mtl_jax.balance.solvers import nonnegative_qp, qp_residual
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array


@dataclass(frozen=True)
class UPGrad:
    """Mean of the projections of every gradient on the dual cone (Quinton and Rey, 2406.16232).

    On unit gradients: the projection of g_t / |g_t| is g_t / |g_t| + sum_s v_s g_s / |g_s| with the
    v >= 0 of least length of the sum; its length |g_t| comes back in afterwards.
    """

    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights [T] of the mean over the present tasks."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        v = jax.vmap(lambda row: nonnegative_qp(c.C, -row))(jnp.where(c.active[:, None], c.C, 0.0))
        gaps = jax.vmap(lambda row, x: qp_residual(c.C, -row, x))(c.C, v)
        n = jnp.maximum(jnp.sum(stats.present), 1.0)
        # The projection of |g_t| e_t: in units of |g_s|, so that no norm is squared.
        ratio = over(jnp.broadcast_to(c.d[:, None], v.shape), jnp.broadcast_to(c.d, v.shape))
        weights = (jnp.sum(v * ratio, 0) + stats.present) / n
        weights = jnp.where(stats.present > 0, weights, 0.0)
        return Update(weights, state, {"residual": jnp.max(jnp.where(c.active, gaps, 0.0))})


@dataclass(frozen=True)
class DualProj:
    """The mean gradient, projected on the dual cone (Lopez-Paz and Ranzato, NeurIPS 2017)."""

    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """1/T + the least multipliers that put the mean into the cone."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        d, _ = unit_norms(c.d, c.active)
        n = jnp.maximum(jnp.sum(stats.present), 1.0)
        b = -(c.C @ d) / n
        b = jnp.where(c.active, b, 0.0)
        v = nonnegative_qp(c.C, b)
        weights = jnp.where(stats.present > 0, 1.0 / n + over(v, d), 0.0)
        return Update(weights, state, {"residual": qp_residual(c.C, b, v)})


@dataclass(frozen=True)
class PCD:
    """Priority-constrained descent (2606.29521): the primary task, held to the others' progress.

    On gradients divided by the root of a moving average of their squared norms, h: the x closest to
    h_primary with <h_t, x> >= tau |h_t|^2 for the other tasks, made as long as g_primary.

    tau: the share of its own progress that every other task keeps; primary: its position.
    beta, eps: of the moving average (bias-corrected). eps is 0 here, so that scale has no say.
    """

    tau: float = 0.02
    beta: float = 0.999
    eps: float = 0.0
    primary: int = 0
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Moving averages of squared norms [T] and how often each was seen [T]."""
        if self.primary >= n_tasks:
            raise UserError(f"balancer 'pcd': primary={self.primary}: there are {n_tasks} tasks")
        square, seen = jnp.zeros((2, n_tasks), jnp.float32)
        return {"square": square, "seen": seen}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights; 0 and stationary = 1 where nothing keeps all progress, or primary has none."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        first = jnp.arange(c.d.shape[0]) == self.primary
        seen = state["seen"] + 1.0
        square = self.beta * state["square"] + (1.0 - self.beta) * jnp.square(c.d)
        mean = jnp.sqrt(square / (1.0 - self.beta**seen) + self.eps)
        h = over(c.d, mean)  # norms of the normalised gradients
        own = c.C[self.primary] * h[self.primary]
        others = c.active & ~first
        b = jnp.where(others, self.tau * h - own, 0.0)
        eye = jnp.eye(c.d.shape[0], dtype=jnp.float32)
        A = jnp.where(others[:, None] & others[None, :], c.C, eye)
        v = jnp.where(others, nonnegative_qp(A, b), 0.0)
        x = v + first * h[self.primary]  # coefficients of unit gradients
        length = jnp.sqrt(jnp.maximum(x @ c.C @ x, 0.0))
        # Below this the direction is rounding error of its parts.
        none = length <= 3e-6 * jnp.sum(jnp.abs(x))
        stretch = c.d[self.primary] / jnp.where(none, 1.0, length)
        weights = jnp.where(none, 0.0, over(x, c.d) * stretch)
        new = keep_absent(stats.present, {"square": square, "seen": seen}, state)
        info = {"residual": qp_residual(A, b, v), "stationary": none.astype(jnp.float32)}
        return Update(weights, new, info)
