"""Heads: from the trunk's features (or an item's, or a user's vector) to a task's output."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.dropout import Dropout
from mtl_jax.nn.ordinal import log_probabilities, raw_of
from mtl_jax.nn.scores import unit


class Head(nn.Module):
    """[B, F] (and z [B, Dz], text [B, Dt] for the wide path) -> [B, out]; float32.

    offset and scale place the output at the training labels' base rate or mean and spread, so
    that the first step already predicts the mean: output = offset + scale * (deep + wide).
    offset is one number, or one for each output.
    """

    config: ModelConfig
    out: int
    offset: float | tuple[float, ...] = 0.0
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
            x = Dropout(rate)(x, deterministic)
        y = nn.Dense(self.out, dtype=dtype, name="out")(x).astype(jnp.float32)
        if wide is not None and c.wide:
            zeros = nn.initializers.zeros
            y = y + nn.Dense(self.out, kernel_init=zeros, use_bias=False, name="wide")(wide)
        if text is not None:
            zeros = nn.initializers.zeros
            y = y + nn.Dense(self.out, kernel_init=zeros, use_bias=False, name="text")(text)
        return jnp.asarray(self.offset) + self.scale * y


class OrdinalHead(nn.Module):
    """As `Head`, to log-probabilities [B, C] of C ordered levels; see `mtl_jax.nn.ordinal`.

    start: thresholds [C - 1] that give the training labels' shares where the score is 0.
    """

    config: ModelConfig
    start: tuple[float, ...]

    @nn.compact
    def __call__(
        self, x: Array, wide: Array | None, deterministic: bool, text: Array | None = None
    ) -> Array:
        score = Head(self.config, 1, name="score")(x, wide, deterministic, text)[:, 0]
        # "bias": weight decay leaves it alone
        raw = self.param("threshold_bias", lambda key: jnp.asarray(raw_of(self.start)))
        return log_probabilities(score, raw)


class CosineHead(nn.Module):
    """a cos(u, v) + b of text vectors u, v [B, Dt] -> [B], a > 0; cos with an empty text is 0.

    Over the rows of the first batch that have both texts it starts with mean `offset` (the labels'
    base log-odds) and spread 1, however alike all texts are to the encoder (a at most 100).
    """

    offset: float = 0.0

    @nn.compact
    def __call__(self, one: Array, other: Array) -> Array:
        u, v = (unit(text.astype(jnp.float32)) for text in (one, other))
        cosine = jnp.sum(u * v, axis=-1)
        there = jnp.any(u != 0, -1) & jnp.any(v != 0, -1)

        def first(key: Array) -> Array:
            mean = jnp.mean(cosine, where=there)
            a = 1.0 / jnp.maximum(jnp.std(cosine, where=there), 0.01)
            raw = a + jnp.log(-jnp.expm1(-a))  # softplus(raw) = a
            found = jnp.stack([raw, self.offset - a * mean])
            return jnp.where(there.any(), found, jnp.array([0.0, self.offset]))

        raw, shift = self.param("cosine_scale", first)  # "scale": decay leaves it alone
        return jax.nn.softplus(raw) * cosine + shift


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
