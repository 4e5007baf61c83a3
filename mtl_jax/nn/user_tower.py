"""User tower: a transformer over the behaviour history, profile, statistics, id -> user vector."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch
from mtl_jax.data.schema import Schema
from mtl_jax.nn.attention import glance
from mtl_jax.nn.columns import Rows, Weights, few
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.dropout import Dropout
from mtl_jax.nn.ridge import Ridge

HISTORY = ("hist", "hist_type", "hist_age", "hist_value")
PSEUDO_EVENTS = 5.0  # by which a history's mean is drawn to zero


class Block(nn.Module):
    """Pre-LN transformer layer over [B, H, D] with a key mask [B, H]."""

    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, x: Array, mask: Array, deterministic: bool) -> Array:
        d, dtype = x.shape[-1], jnp.dtype(self.dtype)
        y = nn.LayerNorm(dtype=dtype, name="norm1")(x)
        keep = mask[:, None, None, :] > 0
        x = x + nn.MultiHeadDotProductAttention(self.heads, dtype=dtype, name="att")(y, mask=keep)
        y = nn.LayerNorm(dtype=dtype, name="norm2")(x)
        y = nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(y))
        y = Dropout(self.dropout)(y, deterministic)
        return x + nn.Dense(d, dtype=dtype, name="out")(y)


class Recall(NamedTuple):
    """A history x [B, H, D] and how it is read: one kernel [D, 2, heads, D / heads] and bias.

    The first of the two are keys, the second values; both are projected by whoever asks.
    """

    x: Array
    kernel: Array
    bias: Array


class Memory(nn.Module):
    """The projections to keys and values of a history, shared by all queries."""

    heads: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Recall:
        d, dtype = x.shape[-1], jnp.dtype(self.dtype)
        kernel, bias = Weights(name="key_value")(d, 2 * d)
        split = (2, self.heads, d // self.heads)
        return Recall(x, kernel.reshape(d, *split).astype(dtype), bias.reshape(split).astype(dtype))


class Attend(nn.Module):
    """One query a row [B, D] over a history -> [B, D]; zeros for an empty mask. See `attend`."""

    heads: int
    width: int
    dtype: str

    def setup(self) -> None:
        """Two dense layers."""
        self.query = nn.Dense(self.width, dtype=jnp.dtype(self.dtype))
        self.out = nn.Dense(self.width, dtype=jnp.dtype(self.dtype))

    def ask(self, query: Array, memory: Recall) -> Array:
        """What is compared with the history's events: [B, N, D], a head each."""
        q = self.query(query.astype(jnp.dtype(self.dtype)))
        q = q.reshape(-1, self.heads, self.width // self.heads)
        q = q / math.sqrt(self.width // self.heads)
        return jnp.einsum("bnd,mnd->bnm", q, memory.kernel[:, 0])

    def tell(self, mean: Array, memory: Recall, mask: Array) -> Array:
        """[B, D] from the events' means [B, N, D] under what was asked."""
        out = jnp.einsum("bnm,mnd->bnd", mean, memory.kernel[:, 1]) + memory.bias[1]
        return self.out(out.reshape(-1, self.width)) * jnp.any(mask > 0, -1, keepdims=True)


def attend(asking: Sequence[tuple[Attend, Array]], memory: Recall, mask: Array) -> list[Array]:
    """What each of (Attend, query [B, D]) reads in a history with mask [B, H]: [B, D] each.

    One vector asks, so keys and values of all events are never made: q . (W x) = (W' q) . x, and
    the weighted mean of W x is W times the weighted mean of x. The keys' bias, the same for all
    events, falls out of the softmax. All queries go over the history together.
    """
    asked = jnp.concatenate([a.ask(query, memory) for a, query in asking], 1)
    means = jnp.split(glance(asked, memory.x, mask > 0), len(asking), 1)
    return [a.tell(mean, memory, mask) for (a, _), mean in zip(asking, means, strict=True)]


class UserTower(nn.Module):
    """What the user is before any target item is known.

    items [U, D] and rows [B, >=D] (id rows), keep [B] (0 hides the id). Returns the user vector
    [B, D], what `others` read in the history, and (`ridge_heads`) what the closed-form model says
    of the row's item: predictions and variances, [B, N] each.
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
        others: Sequence[tuple[Attend, Array]] = (),
    ) -> tuple[Array, list[Array], list[Array]]:
        c, d = self.config, self.config.width
        dtype = jnp.dtype(c.dtype)
        recent = {k: batch[k][:, : c.attended or None] for k in HISTORY if k in batch}
        hist = recent["hist"]
        mask = (hist > 0).astype(dtype)
        x = jnp.take(items, hist, axis=0).astype(dtype)
        types = self.schema.history_types
        # An embedding of the type and a dense layer of the age as one product, and so their
        # gradients: no scatter, and no sum over all events for the bias.
        of_type, (of_age, bias) = Rows(name="type")(types, d), Weights(name="age")(2, d)
        age = recent["hist_age"].astype(dtype)[..., None]  # log1p(hours) before the row
        event = [jax.nn.one_hot(recent["hist_type"], types, dtype=dtype), age, jnp.exp(-age)]
        event.append(jnp.ones_like(age))
        kernel = jnp.concatenate([of_type, of_age, bias[None]]).astype(dtype)
        x = x + few(jnp.concatenate(event, -1), kernel)
        if "hist_value" in batch:
            value = nn.Dense(d, dtype=dtype, use_bias=False, name="value")
            x = x + value(recent["hist_value"].astype(dtype))
        position = self.param("position", nn.initializers.normal(0.02), (hist.shape[1], d))
        x = x + position.astype(dtype)
        for n in range(c.user_layers):
            x = Block(c.user_heads, c.dropout, c.dtype, name=f"layer_{n}")(x, mask, deterministic)
        profile = self._profile(rows, keep, history_text, batch, dtype)
        memory = Memory(c.user_heads, c.dtype, name="memory")(x)
        pool = Attend(c.user_heads, d, c.dtype, name="pool")
        summary, *seen = attend([(pool, profile), *others], memory, mask)
        # Drawn to zero where little is known, so that the number of events is not erased.
        mean = jnp.einsum("bhd,bh->bd", x, mask) / (jnp.sum(mask, 1) + PSEUDO_EVENTS)[:, None]
        parts = [summary, mean, profile]
        told: list[Array] = []
        if c.ridge_heads:
            ridge = Ridge(c.ridge_heads, c.ridge_width, types, name="ridge")
            users, *told = ridge(items, profile, batch)
            parts.append(users.astype(dtype))
        u = nn.Dense(d, dtype=dtype, name="merge")(jnp.concatenate(parts, -1))
        h = nn.LayerNorm(dtype=dtype, name="norm")(u)
        if not c.ridge_heads:  # a closed-form user is the shorter the less is known: kept so
            u = h
        h = Dropout(c.dropout)(h, deterministic)
        h = nn.Dense(d, dtype=dtype, name="out")(
            nn.gelu(nn.Dense(2 * d, dtype=dtype, name="in")(h))
        )
        return (u + h).astype(jnp.float32), seen, told

    def _profile(
        self, rows: Array, keep: Array, history_text: Array | None, batch: Batch, dtype: jnp.dtype
    ) -> Array:
        c, d = self.config, self.config.width
        parts = []
        if batch["stats_user"].shape[-1]:
            stats = nn.Dense(d, dtype=dtype, name="stats")
            parts.append(stats(batch["stats_user"].astype(dtype)))
        if c.user_id:
            parts.append((rows[:, :d] * keep[:, None]).astype(dtype))
        for column in self.schema.user_categorical:
            table = nn.Embed(column.size, d, dtype=dtype, name=f"cat_{column.name}")
            parts.append(table(batch[f"u_cat/{column.name}"]))
        if self.schema.user_dense:
            parts.append(nn.Dense(d, dtype=dtype, name="dense")(batch["u_dense"].astype(dtype)))
        if history_text is not None:
            parts.append(nn.Dense(d, dtype=dtype, name="text")(history_text.astype(dtype)))
        return sum(parts, jnp.zeros((rows.shape[0], d), dtype))
