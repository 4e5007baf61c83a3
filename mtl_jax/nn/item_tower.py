"""Item tower: text, id, attributes -> one vector per distinct item of the batch."""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.dropout import Dropout


class ItemTower(nn.Module):
    """Sum of the parts that an item has, then one residual layer.

    `rows` [U, >=D]: gathered id rows; `keep` [U]: 0 hides the id (unseen item, or id dropout);
    `text` [U, Dt] or None. Returns [U, D]. An item that was never trained on is its text and
    attributes: the id part is an offset that may be missing.
    """

    config: ModelConfig
    schema: Schema

    @nn.compact
    def __call__(
        self, rows: Array, keep: Array, text: Array | None, batch: Batch, deterministic: bool
    ) -> Array:
        c, d = self.config, self.config.width
        dtype = jnp.dtype(c.dtype)
        parts = []
        if text is not None:
            x = Dropout(c.text_dropout)(text.astype(dtype), deterministic)
            if c.text_hidden:
                x = nn.gelu(nn.Dense(c.text_hidden, dtype=dtype, name="text_hidden")(x))
            parts.append(nn.Dense(d, dtype=dtype, name="text")(x))
        if c.item_id:
            parts.append((rows[:, :d] * keep[:, None]).astype(dtype))
        for column in self.schema.item_categorical:
            table = nn.Embed(column.size, d, dtype=dtype, name=f"cat_{column.name}")
            parts.append(table(batch[f"items/cat_{column.name}"]))
        if self.schema.n_tags:
            tags = batch["items/tags"]  # [U, M], 0 = none
            vectors = nn.Embed(self.schema.n_tags, d, dtype=dtype, name="tags")(tags)
            some = (tags > 0).astype(dtype)[..., None]
            parts.append(jnp.sum(vectors * some, 1) / jnp.maximum(jnp.sum(some, 1), 1.0))
        if self.schema.item_dense:
            parts.append(nn.Dense(d, dtype=dtype, name="dense")(batch["items/dense"].astype(dtype)))
        x = sum(parts[1:], parts[0])
        x = nn.LayerNorm(dtype=dtype, name="norm")(x)
        h = Dropout(c.dropout)(x, deterministic)
        h = nn.Dense(d, dtype=dtype, name="out")(
            nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(h))
        )
        return (x + h).astype(jnp.float32)
