"""User tower: a transformer over the behaviour history, profile, statistics, id -> user vector."""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn.config import ModelConfig


class Block(nn.Module):
    """Pre-LN transformer layer over [B, H, D] with a key mask [B, H]."""

    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, x: Array, mask: Array, deterministic: bool) -> Array:
        d, dtype = x.shape[-1], jnp.dtype(self.dtype)
        y = nn.LayerNorm(dtype=dtype, name="norm1")(x)
        x = x + attend(self, y, y, mask, self.heads, "att")
        y = nn.LayerNorm(dtype=dtype, name="norm2")(x)
        y = nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(y))
        y = nn.Dropout(self.dropout)(y, deterministic=deterministic)
        return x + nn.Dense(d, dtype=dtype, name="out")(y)


def attend(
    module: nn.Module, query: Array, memory: Array, mask: Array, heads: int, name: str
) -> Array:
    """Multi-head attention [B, Q, D] over [B, H, D]; a row whose mask is all zero gives zeros."""
    d, dtype = memory.shape[-1], memory.dtype
    split = (heads, d // heads)
    q = nn.DenseGeneral(split, dtype=dtype, name=f"{name}_query", parent=module)(query)
    k = nn.DenseGeneral(split, dtype=dtype, name=f"{name}_key", parent=module)(memory)
    v = nn.DenseGeneral(split, dtype=dtype, name=f"{name}_value", parent=module)(memory)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) / jnp.sqrt(d // heads)
    keep = mask[:, None, None, :] > 0
    weights = nn.softmax(jnp.where(keep, logits, -1e9), axis=-1) * keep
    out = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(dtype), v)
    return nn.DenseGeneral(d, axis=(-2, -1), dtype=dtype, name=f"{name}_out", parent=module)(out)


class UserTower(nn.Module):
    """What the user is before any target item is known.

    items [U, D] and rows [B, >=D] (id rows), keep [B] (0 hides the id). Returns the user vector
    [B, D] and the history's states [B, H, D] for target attention.
    """

    config: ModelConfig
    schema: Schema

    @nn.compact
    def __call__(
        self,
        items: Array,
        rows: Array,
        keep: Array,
        history_text: Array | None,
        batch: Batch,
        deterministic: bool,
    ) -> tuple[Array, Array]:
        c, d = self.config, self.config.width
        dtype = jnp.dtype(c.dtype)
        hist = batch["hist"]
        mask = (hist > 0).astype(dtype)
        x = jnp.take(items, hist, axis=0).astype(dtype)
        x = x + nn.Embed(self.schema.history_types, d, dtype=dtype, name="type")(batch["hist_type"])
        age = batch["hist_age"].astype(dtype)[..., None]  # log1p(hours) before the row
        x = x + nn.Dense(d, dtype=dtype, name="age")(jnp.concatenate([age, jnp.exp(-age)], -1))
        position = self.param("position", nn.initializers.normal(0.02), (hist.shape[1], d))
        x = x + position.astype(dtype)
        for n in range(c.user_layers):
            x = Block(c.user_heads, c.dropout, c.dtype, name=f"layer_{n}")(x, mask, deterministic)
        profile = self._profile(rows, keep, history_text, batch, dtype)
        summary = attend(self, profile[:, None], x, mask, c.user_heads, "pool")[:, 0]
        mean = jnp.sum(x * mask[..., None], 1) / jnp.maximum(jnp.sum(mask, 1), 1.0)[:, None]
        u = nn.Dense(d, dtype=dtype, name="merge")(jnp.concatenate([summary, mean, profile], -1))
        u = nn.LayerNorm(dtype=dtype, name="norm")(u)
        h = nn.Dropout(c.dropout)(u, deterministic=deterministic)
        h = nn.Dense(d, dtype=dtype, name="out")(
            nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(h))
        )
        return (u + h).astype(jnp.float32), x

    def _profile(
        self, rows: Array, keep: Array, history_text: Array | None, batch: Batch, dtype: jnp.dtype
    ) -> Array:
        c, d = self.config, self.config.width
        parts = [nn.Dense(d, dtype=dtype, name="stats")(batch["stats_user"].astype(dtype))]
        if c.user_id:
            parts.append((rows[:, :d] * keep[:, None]).astype(dtype))
        for column in self.schema.user_categorical:
            table = nn.Embed(column.size, d, dtype=dtype, name=f"cat_{column.name}")
            parts.append(table(batch[f"u_cat/{column.name}"]))
        if self.schema.user_dense:
            parts.append(nn.Dense(d, dtype=dtype, name="dense")(batch["u_dense"].astype(dtype)))
        if history_text is not None:
            parts.append(nn.Dense(d, dtype=dtype, name="text")(history_text.astype(dtype)))
        return sum(parts[1:], parts[0])
