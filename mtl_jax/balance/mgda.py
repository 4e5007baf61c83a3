"""MGDA: the shortest vector in the convex hull of the task gradients."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from mtl_jax.balance.gramian import correlation, over, whole
from mtl_jax.balance.solvers import nonnegative_qp, qp_residual
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


def min_norm(gram: Array, present: Array) -> tuple[Array, Array]:
    """w [T] on the simplex with the least w'Gw, and the residual [].

    On C, with a = min(d) / d: the least u'Cu with a'u = 1 is, up to length, the u >= 0 that
    minimises u'(C + aa')u/2 - a'u (the conditions of optimality are the same). A zero gradient
    is the shortest vector itself.
    """
    c = correlation(gram, present)
    least = jnp.min(jnp.where(c.active, c.d, jnp.inf))
    a = over(jnp.broadcast_to(least, c.d.shape), c.d)
    A = c.C + a[:, None] * a[None, :]
    u = jnp.where(c.active, nonnegative_qp(A, a), 0.0)
    zero = ((present > 0) & ~c.active).astype(jnp.float32)
    weights = jnp.where(jnp.any(zero > 0), zero, u * a)
    return over(weights, jnp.broadcast_to(jnp.sum(weights), u.shape)), qp_residual(A, a, u)


@dataclass(frozen=True)
class MGDA:
    """min over the simplex of |sum_t w_t g_t|^2 (Désidéri 2012; Sener and Koltun, NeurIPS 2018).

    normalise: what every g_t is divided by before: "none", "l2" its norm, "loss" its loss, "loss+"
        loss times norm. Weights are of the gradients as they came.
    """

    normalise: Literal["none", "l2", "loss", "loss+"] = "none"
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights w / normaliser."""
        assert stats.gram is not None
        G = whole(stats.gram)
        norm = jnp.where(stats.present > 0, jnp.sqrt(jnp.diagonal(G)), 0.0)
        by = jnp.ones_like(norm)
        if self.normalise in ("l2", "loss+"):
            by = by * norm
        if self.normalise in ("loss", "loss+"):
            by = by * stats.losses
        inverse = over(jnp.where(stats.present > 0, 1.0, 0.0), by)
        w, residual = min_norm(G * inverse[:, None] * inverse[None, :], stats.present)
        return Update(w * inverse, state, {"residual": residual})
