"""Sums, counts and means over the entries that a mask keeps."""

import jax.numpy as jnp

from mtl_jax.core.types import Array


def masked_sum(values: Array, mask: Array) -> tuple[Array, Array]:
    """(sum, count) over `mask`; values outside it may be anything, NaN included."""
    keep = mask > 0
    total = jnp.sum(jnp.where(keep, values, 0.0) * mask, dtype=jnp.float32)
    return total, jnp.sum(mask, dtype=jnp.float32)


def masked_mean(values: Array, mask: Array, axis: int | None = None) -> Array:
    """Mean over `mask`; 0 where nothing is kept."""
    keep = mask > 0
    total = jnp.sum(jnp.where(keep, values, 0.0) * mask, axis=axis)
    return total / jnp.maximum(jnp.sum(mask, axis=axis), 1e-9)
