"""Embeddings and dense layers whose parameters are used together: few columns are one product."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.primitives import product

SMALL = 128  # values of a column from which its rows are gathered


class Rows(nn.Module):
    """The parameters of an `nn.Embed`: [n, D]."""

    @nn.compact
    def __call__(self, n: int, d: int) -> Array:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        return self.param("embedding", init, (n, d), jnp.float32)


class Weights(nn.Module):
    """The parameters of an `nn.Dense`: [n, D] and [D]."""

    @nn.compact
    def __call__(self, n: int, d: int) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (n, d), jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros, (d,), jnp.float32)


@jax.custom_vjp
def few(x: Array, kernel: Array) -> Array:
    """x [..., K] @ kernel [K, N] for a K of a few: a sum that XLA makes with what it is added to.

    The way back is by products.
    """
    parts = [x[..., k : k + 1].astype(jnp.float32) * kernel[k] for k in range(len(kernel))]
    return sum(parts[1:], parts[0]).astype(x.dtype)


def _few_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return few(x, kernel), (x, kernel)


def _few_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return jax.vjp(product, *kept)[1](g)


few.defvjp(_few_forward, _few_backward)


def mean_row(table: Array, ids: Array) -> Array:
    """Mean of the rows of table [V, D] that ids [U, M] name, 0 being none -> [U, D]; or zeros."""
    some = (ids > 0).astype(table.dtype)[..., None]
    rows = jnp.take(table, ids, axis=0, mode="clip")
    return jnp.sum(rows * some, 1) / jnp.maximum(jnp.sum(some, 1), 1.0)


def shares(ids: Array, n: int, dtype: jnp.dtype) -> Array:
    """What `mean_row` weighs a table of n rows by: [U, n]."""
    hot = jax.nn.one_hot(ids, n, dtype=dtype) * (ids > 0)[..., None]
    return jnp.sum(hot, 1) / jnp.maximum(jnp.sum(ids > 0, 1, keepdims=True), 1).astype(dtype)


def together(parts: Sequence[tuple[Array, Array]], dtype: jnp.dtype) -> Array:
    """Sum of x [U, K] @ kernel [K, D] over the parts, as one product."""
    x = jnp.concatenate([x.astype(dtype) for x, _ in parts], 1)
    return product(x, jnp.concatenate([kernel.astype(dtype) for _, kernel in parts]))
