"""Heads: from the trunk's features (or an item's, or a user's vector) to a task's output."""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig


class Head(nn.Module):
    """[B, F] (and z [B, Dz], text [B, Dt] for the wide path) -> [B, out]; float32.

    offset and scale place the output at the training labels' base rate or mean and spread, so
    that the first step already predicts the mean: output = offset + scale * (deep + wide).
    """

    config: ModelConfig
    out: int
    offset: float = 0.0
    scale: float = 1.0

    @nn.compact
    def __call__(
        self, x: Array, wide: Array | None, deterministic: bool, text: Array | None = None
    ) -> Array:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.head_width:
            x = nn.gelu(nn.Dense(c.head_width, dtype=dtype, name="hidden")(x.astype(dtype)))
            rate = c.dropout if c.trunk_dropout is None else c.trunk_dropout
            x = nn.Dropout(rate)(x, deterministic=deterministic)
        y = nn.Dense(self.out, dtype=dtype, name="out")(x).astype(jnp.float32)
        if wide is not None and c.wide:
            zeros = nn.initializers.zeros
            y = y + nn.Dense(self.out, kernel_init=zeros, use_bias=False, name="wide")(wide)
        if text is not None:
            zeros = nn.initializers.zeros
            y = y + nn.Dense(self.out, kernel_init=zeros, use_bias=False, name="text")(text)
        return self.offset + self.scale * y


class RetrievalHead(nn.Module):
    """Query [B, D] of the user and key [U, D] of the item; score = <q, k>/sqrt(D) + bias_i."""

    config: ModelConfig

    @nn.compact
    def __call__(self, user: Array, items: Array) -> tuple[Array, Array]:
        d = self.config.width
        return (
            nn.Dense(d, name="query")(user) / jnp.sqrt(d),
            nn.Dense(d, name="key")(items),
        )
