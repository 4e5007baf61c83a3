"""What balancers share: states that absent tasks do not move, softmax over those present."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array


def keep_absent(present: Array, new: Any, old: Any) -> Any:
    """`new` where a task is present, `old` where it is absent, along each leaf's first axis [T].

    Leaves without axes (counters, Adam's step) are the new ones.
    """

    def one(n: Array, o: Array) -> Array:
        if not n.ndim:
            return n
        return jnp.where(present.reshape(-1, *(1,) * (n.ndim - 1)) > 0, n, o)

    return jax.tree.map(one, new, old)


def present_mean(values: Array, present: Array) -> Array:
    """Mean over the present tasks []; 0 where there is none."""
    total = jnp.sum(jnp.where(present > 0, values, 0.0))
    return total / jnp.maximum(jnp.sum(present), 1.0)


def softmax_of(values: Array, present: Array) -> Array:
    """Softmax over the present tasks [T], 0 for the others; all 0 where none is present."""
    there = present > 0
    top = jnp.max(jnp.where(there, values, -jnp.inf))
    share = jnp.where(there, jnp.exp(jnp.where(there, values - top, 0.0)), 0.0)
    return share / jnp.maximum(jnp.sum(share), 1e-30)
