"""Item tower: text, id, attributes -> one vector per distinct item of the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn.columns import SMALL, Rows, Weights, mean_row, shares, together
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
        x = sum(parts, self._attributes(len(rows), batch, dtype))
        x = nn.LayerNorm(dtype=dtype, name="norm")(x)
        h = Dropout(c.dropout)(x, deterministic)
        h = nn.Dense(d, dtype=dtype, name="out")(
            nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(h))
        )
        return (x + h).astype(jnp.float32)

    def _attributes(self, U: int, batch: Batch, dtype: jnp.dtype) -> Array:
        """Categories, tags [U, M] (0 = none) and numbers; columns of few values as one product."""
        d, s = self.config.width, self.schema
        gathered, small = [], []
        for column in s.item_categorical:
            table = Rows(name=f"cat_{column.name}")(column.size, d)
            ids = batch[f"items/cat_{column.name}"]
            if column.size > SMALL:
                gathered.append(jnp.take(table.astype(dtype), ids, axis=0, mode="clip"))
            else:
                small.append((jax.nn.one_hot(ids, column.size), table))
        if s.n_tags:
            table, tags = Rows(name="tags")(s.n_tags, d), batch["items/tags"]
            if s.n_tags > SMALL:
                gathered.append(mean_row(table.astype(dtype), tags))
            else:
                small.append((shares(tags, s.n_tags, dtype), table))
        if s.item_dense:
            numbers = batch["items/dense"]
            kernel, bias = Weights(name="dense")(numbers.shape[-1], d)
            small.append((numbers, kernel))
            gathered.append(bias.astype(dtype))
        return sum(gathered, together(small, dtype) if small else jnp.zeros((U, d), dtype))
