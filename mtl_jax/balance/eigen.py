"""Methods that invert the Gramian: IMTL-G, ConFIG and Aligned-MTL."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from mtl_jax.balance.gramian import Correlation, correlation, over, unit_norms, whole
from mtl_jax.balance.jacobi import principal_columns
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.balance.uncertainty import IMTLL
from mtl_jax.core.types import Array

EPS = 1.2e-7  # float32


def pseudo_inverse(c: Correlation) -> tuple[Array, Array]:
    """(C^+ 1 over the active tasks [T], residual |C C^+ 1 - 1| [])."""
    ones = c.active.astype(jnp.float32)
    values, vectors = jnp.linalg.eigh(c.C)
    kept = values > 10 * EPS * values[-1]
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)
    u = jnp.where(c.active, vectors @ (inverse * (vectors.T @ ones)), 0.0)
    return u, jnp.max(jnp.abs(jnp.where(c.active, c.C @ u - 1.0, 0.0)))


@dataclass(frozen=True)
class IMTLG:
    """Equal projections of the update on all unit gradients, weights that sum to 1.

    (Liu et al., ICLR 2021.) w = u / |g|, C u = 1, by the pseudo-inverse where rows depend on each
    other; tasks without a gradient have no part in it. Weights may be negative, and where their sum
    is before it is made 1, the definition's update leads uphill for every task: info "ascends".
    """

    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights; 0 and stationary = 1 where they sum to 0 or C u = 1 has no solution."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        u, residual = pseudo_inverse(c)
        least = jnp.min(jnp.where(c.active, c.d, jnp.inf))
        w = u * over(jnp.broadcast_to(least, u.shape), c.d)
        total = jnp.sum(w)
        none = (jnp.abs(total) <= 10 * EPS * jnp.sum(jnp.abs(w))) | (residual > 1e-2)
        weights = jnp.where(none, 0.0, w / jnp.where(none, 1.0, total))
        info = {"residual": residual, "stationary": none.astype(jnp.float32)}
        info["ascends"] = (total < 0).astype(jnp.float32)
        return Update(weights, state, info)


@dataclass(frozen=True)
class IMTL:
    """IMTL-L's scaled losses with IMTL-G's weights of their gradients (Liu et al., ICLR 2021)."""

    learning_rate: float = 0.01
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """IMTL-L's state."""
        return IMTLL(self.learning_rate).init(n_tasks)

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """e^s times IMTL-G's weights of the gradients of e^s L."""
        assert stats.gram is not None
        loss = IMTLL(self.learning_rate).update(stats, state, key)
        scale = loss.weights
        gram = whole(stats.gram) * scale[:, None] * scale[None, :]
        found = IMTLG().update(stats._replace(gram=gram), (), key)
        return Update(found.weights * scale, loss.state, {**found.info, **loss.info})


@dataclass(frozen=True)
class ConFIG:
    """The direction of equal cosine to all gradients, as long as their projections on it sum to.

    (Liu, Chu, Thuerey; ICLR 2025.) x = U^+ 1 for the matrix U of unit gradients; on the Gramian
    x = sum_t u_t g_t / |g_t| with u = C^+ 1.
    """

    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights (sum_t |g_t| cos_t) / |x| u / |g|."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        u, residual = pseudo_inverse(c)
        along = c.C @ u
        square = jnp.maximum(u @ along, 0.0)
        d, _ = unit_norms(c.d, c.active)
        length = over(jnp.sum(d * along), square)
        weights = jnp.where(c.active, length * over(u, d), 0.0)
        return Update(weights, state, {"residual": residual})


@dataclass(frozen=True)
class AlignedMTL:
    """Aligned-MTL (Senushkin et al., CVPR 2023): all principal components made equally long.

    w = sqrt(scale) G^(-1/2) p with G^(-1/2) on the span of the rows; scale: the least eigenvalue of
    these ("min"), their "median", or their mean ("rmse").
    reduce: p is 1/T ("mean", as TorchJD has it) or 1 ("sum", as LibMTL).
    """

    scale: Literal["min", "median", "rmse"] = "min"
    reduce: Literal["mean", "sum"] = "mean"
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights; info "rank" is the number of independent rows."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        d, _ = unit_norms(c.d, c.active)
        columns, rank = principal_columns(c.C, jnp.where(c.active, d, 0.0))
        square = jnp.sum(columns * columns, 1)
        kept = ~(square <= 0)
        last = jnp.maximum(rank - 1, 0)
        if self.scale == "min":
            scale = square[last]
        elif self.scale == "median":  # the lower one of two
            scale = square[rank // 2]
        else:
            scale = jnp.sum(jnp.where(kept, square, 0.0)) / jnp.maximum(rank, 1)
        p = stats.present * c.active
        sigma = jnp.sqrt(jnp.where(kept, square, 1.0))
        u = jnp.where(kept[:, None], columns / sigma[:, None], 0.0)
        w = jnp.sqrt(scale) * (u.T @ ((u @ p) / sigma))
        w = jnp.where(jnp.any(c.active), w, 1.0)
        by = jnp.maximum(jnp.sum(stats.present), 1.0) if self.reduce == "mean" else 1.0
        weights = jnp.where(stats.present > 0, w / by, 0.0)
        return Update(weights, state, {"rank": rank.astype(jnp.float32)})
