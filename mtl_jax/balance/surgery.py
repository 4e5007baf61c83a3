"""Gradient surgery, one pair of tasks after another: PCGrad and GradVac.

Both keep, for every task, the coefficients of its changed gradient on the unit task gradients, so
the T x T passes run over T numbers and not over parameters.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from mtl_jax.balance.gramian import correlation, over
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.types import Array


def orders(key: Array, n: int) -> Array:
    """For each task its own random order of all tasks [T, T]."""
    keys = jax.random.split(key, n)
    return jax.vmap(lambda k: jax.random.permutation(k, n))(keys)


@dataclass(frozen=True)
class PCGrad:
    """Every gradient, projected off each conflicting one in random order; their sum.

    (Yu et al., NeurIPS 2020.) A conflict is <changed g_i, g_j> < 0, j != i.
    """

    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state; the order is drawn from the key."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights of the sum of the changed gradients."""
        assert stats.gram is not None
        c = correlation(stats.gram, stats.present)
        n = c.d.shape[0]

        def changed(i: Array, order: Array) -> Array:
            def visit(at: Array, j: Array) -> tuple[Array, None]:
                dot = jnp.dot(at, c.C[j])
                off = jnp.where((j != i) & c.active[j], jnp.minimum(dot, 0.0), 0.0)
                return at.at[j].add(-off), None

            start = (jnp.arange(n) == i).astype(jnp.float32)
            return jax.lax.scan(visit, start, order)[0]

        rows = jax.vmap(changed)(jnp.arange(n), orders(key, n))
        return Update(_back(rows, c.d, stats.present), state, {})


@dataclass(frozen=True)
class GradVac:
    """Gradient vaccine (Wang et al., ICLR 2021): cosines are raised to a moving target.

    Where the cosine phi of the changed g_i with g_j lies below its target rho_ij, g_j is added
    until it is rho; rho then moves by `beta` towards phi. Target 0 is PCGrad.

    groups: one target for all shared parameters ("whole"), one per layer (the arrays of one module)
        or one per array ("matrix"); the last two want a Gramian per group [groups, T, T], and give
        weights per group.
    """

    beta: float = 0.5
    groups: Literal["whole", "layer", "matrix"] = "whole"
    needs: ClassVar[str] = "gram"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Targets [T, T], all 0; per group [groups, T, T] (grads_like: a list of groups)."""
        zeros = jnp.zeros((n_tasks, n_tasks), jnp.float32)
        if self.groups == "whole":
            return zeros
        return jnp.stack([zeros] * len(grads_like))

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights [T], or [groups, T]; the order of pairs is the same in every group."""
        assert stats.gram is not None
        if stats.gram.ndim == 3 and state.ndim == 3:
            one = lambda g, rho: self._one(g, stats.present, rho, key)  # noqa: E731
            weights, new = jax.vmap(one)(stats.gram, state)
        else:
            weights, new = self._one(stats.gram, stats.present, state, key)
        return Update(weights, new, {"target": jnp.mean(new)})

    def _one(self, gram: Array, present: Array, state: Array, key: Array) -> tuple[Array, Array]:
        c = correlation(gram, present)
        n = c.d.shape[0]

        def changed(i: Array, order: Array, target: Array) -> tuple[Array, Array]:
            def visit(at: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], None]:
                x, rho = at
                length = jnp.sqrt(jnp.maximum(x @ c.C @ x, 0.0))
                phi = over(jnp.dot(x, c.C[j]), length)
                phi, goal = jnp.clip(phi, -1.0, 1.0), jnp.clip(rho[j], -1.0, 1.0)
                sine, goal_sine = (jnp.sqrt(1.0 - jnp.square(v)) for v in (phi, goal))
                add = length * over(goal * sine - phi * goal_sine, goal_sine)
                both = (j != i) & c.active[j] & c.active[i]
                x = x.at[j].add(jnp.where(both & (phi < goal), add, 0.0))
                moved = (1.0 - self.beta) * goal + self.beta * phi
                return (x, rho.at[j].set(jnp.where(both, moved, rho[j]))), None

            start = (jnp.arange(n) == i).astype(jnp.float32)
            return jax.lax.scan(visit, (start, target), order)[0]

        rows, new = jax.vmap(changed)(jnp.arange(n), orders(key, n), state)
        return _back(rows, c.d, present), new


def _back(rows: Array, d: Array, present: Array) -> Array:
    """Weights [T] from coefficients on unit gradients [T, T], row i times |g_i|, over |g_j|."""
    own = jnp.eye(d.shape[0], dtype=jnp.float32)
    ratio = over(jnp.broadcast_to(d[:, None], rows.shape), jnp.broadcast_to(d, rows.shape))
    total = jnp.sum((rows - own) * ratio, 0) + 1.0
    return jnp.where(present > 0, total, 0.0)
