"""The Gramian of task gradients, and what is read off it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array


def cross(one: Any, other: Any) -> Array:
    """J1 J2' [T, T] of two trees of task gradients with leaves [T, ...]; float32."""

    def of_leaf(a: Array, b: Array) -> Array:
        flat = (x.reshape(x.shape[0], -1).astype(jnp.float32) for x in (a, b))
        return jnp.einsum("tn,sn->ts", *flat, precision=jax.lax.Precision.HIGHEST)

    parts = jax.tree.leaves(jax.tree.map(of_leaf, one, other))
    return jnp.sum(jnp.stack(parts), axis=0)


def gramian(grads: Any) -> Array:
    """G = J J' [T, T] of a tree of task gradients with leaves [T, ...]."""
    return cross(grads, grads)


def whole(gram: Array) -> Array:
    """The Gramian of all parameters [T, T] from one that may be by group [groups, T, T]."""
    return gram if gram.ndim == 2 else jnp.sum(gram, axis=0)


class Correlation(NamedTuple):
    """G = diag(d) C diag(d): C [T, T] with ones on the diagonal, norms d [T], active [T].

    A task that is absent, or whose gradient is zero, is not active: its row of C is that of the
    identity, its d is 0.
    """

    C: Array
    d: Array
    active: Array


def correlation(gram: Array, present: Array) -> Correlation:
    """Row norms factored out of G, which makes what is solved on C free of every task's scale."""
    G = whole(gram)
    square = jnp.diagonal(G)
    # A norm that is not finite must reach the weights, so only zeros are set aside.
    active = (present > 0) & ~(square <= 0.0)
    d = jnp.where(active, jnp.sqrt(jnp.where(active, square, 1.0)), 0.0)
    inverse = jnp.where(active, 1.0 / jnp.where(active, d, 1.0), 0.0)
    eye = jnp.eye(G.shape[0], dtype=jnp.float32)
    C = (G * inverse[:, None]) * inverse[None, :]
    pair = active[:, None] & active[None, :]
    return Correlation(jnp.where(eye > 0, 1.0, jnp.where(pair, C, 0.0)), d, active)


def over(values: Array, norms: Array) -> Array:
    """values / norms, 0 where the norm is 0."""
    there = norms != 0  # true of NaN, which must stay
    return jnp.where(there, values / jnp.where(there, norms, 1.0), 0.0)


def unit_norms(d: Array, active: Array) -> tuple[Array, Array]:
    """(d over its largest value, that value): a common scale taken out; 0 stays 0."""
    top = jnp.max(jnp.where(active, d, 0.0))
    return over(d, jnp.broadcast_to(top, d.shape)), top


def telemetry(gram: Array, present: Array) -> dict[str, Array]:
    """norm [T], cosine [T, T], and conflict []: the share of pairs of tasks with cosine below 0."""
    c = correlation(gram, present)
    pair = jnp.triu(c.active[:, None] & c.active[None, :], 1)
    conflict = jnp.sum((c.C < 0) & pair) / jnp.maximum(jnp.sum(pair), 1)
    return {"norm": c.d, "cosine": c.C, "conflict": conflict.astype(jnp.float32)}
