"""Context: periodic time, device, place; and how it gates the user vector."""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn.config import ModelConfig

DAY, WEEK, YEAR = 24.0, 168.0, 8766.0  # hours


def periodic(hour_of_week: Array, hour_of_year: Array) -> Array:
    """sin and cos of the hour in day (4 harmonics), week (3) and year (1): [..., 16]."""
    angles = [2 * jnp.pi * k * hour_of_week / DAY for k in (1, 2, 3, 4)]
    angles += [2 * jnp.pi * k * hour_of_week / WEEK for k in (1, 2, 3)]
    angles += [2 * jnp.pi * hour_of_year / YEAR]
    x = jnp.stack(angles, -1)
    return jnp.concatenate([jnp.sin(x), jnp.cos(x)], -1)


class Context(nn.Module):
    """Context vector [B, D] of a row from its time and its categorical context columns."""

    config: ModelConfig
    schema: Schema

    @nn.compact
    def __call__(self, batch: Batch) -> Array:
        d, dtype = self.config.width, jnp.dtype(self.config.dtype)
        waves = periodic(batch["ctx/hour_of_week"], batch["ctx/hour_of_year"])
        x = nn.Dense(d, dtype=dtype, name="time")(waves.astype(dtype))
        for column in self.schema.context:
            table = nn.Embed(column.size, d, dtype=dtype, name=f"ctx_{column.name}")
            x = x + table(batch[f"ctx/{column.name}"])
        return nn.gelu(nn.LayerNorm(dtype=dtype, name="norm")(x)).astype(jnp.float32)


class Gate(nn.Module):
    """u * (1 + tanh(W c)): context strengthens or mutes directions of the user vector."""

    @nn.compact
    def __call__(self, user: Array, context: Array) -> Array:
        start_closed = nn.initializers.zeros
        gate = nn.Dense(user.shape[-1], kernel_init=start_closed, name="gate")(context)
        return user * (1.0 + jnp.tanh(gate))
