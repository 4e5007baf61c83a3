"""Shared-bottom trunk (Caruana, 1997): one stack of layers that every task reads."""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig


class SharedBottom(nn.Module):
    """z [B, Dz] -> the same [B, widths[-1]] for every task."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, tasks: tuple[str, ...], deterministic: bool) -> dict[str, Array]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        rate = c.dropout if c.trunk_dropout is None else c.trunk_dropout
        x = nn.Dropout(c.input_dropout)(z.astype(dtype), deterministic=deterministic)
        for n, width in enumerate(c.trunk_widths):
            x = nn.gelu(nn.Dense(width, dtype=dtype, name=f"layer_{n}")(x))
            if c.trunk_norm:
                x = nn.LayerNorm(dtype=dtype, name=f"norm_{n}")(x)
            x = nn.Dropout(rate)(x, deterministic=deterministic)
        return dict.fromkeys(tasks, x)
