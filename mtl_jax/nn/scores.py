"""Three scores of a row and their fusion by a gate that can be read.

collaborative  s = <u, i> + b_u + b_i + mu           (biased matrix factorisation, b as offsets)
content        cosine between the history's texts and the item's text
interest       log-probability of the item's category under the user's category distribution
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.attention import IN_CACHE, cut
from mtl_jax.nn.config import ModelConfig

SCORES = ("collaborative", "content_mean", "content_max", "interest")


def collaborative(user: Array, item: Array, user_bias: Array, item_bias: Array, mu: Array) -> Array:
    """<u, i>/sqrt(D) + b_u + b_i + mu, all [B]; b_u and b_i are offsets from mu."""
    return jnp.sum(user * item, -1) / jnp.sqrt(user.shape[-1]) + user_bias + item_bias + mu


def unit(text: Array) -> Array:
    """Rows [U, Dt] of length 1; zeros stay zeros.

    Not jnp.linalg.norm: its gradient at a text of zeros (padding) is NaN.
    """
    squares = jnp.sum(jnp.square(text), axis=-1, keepdims=True)
    return text / jnp.sqrt(jnp.maximum(squares, 1e-12))


@jax.custom_vjp
def pairs(rows: Array, table: Array, index: Array) -> Array:
    """<rows[b], table[index[b, h]]>: [B, Dt], [U, Dt], [B, H] -> [B, H].

    One [B, Dt] x [Dt, U] product has all of them and is the way back. On a CPU the table's rows are
    gathered instead, for so few pairs at a time that they stay in its cache: at B = 512, H = 50 and
    U = 2240 a twentieth of the operations and a third of the time.
    """
    if jax.default_backend() != "cpu":
        return jnp.take_along_axis(rows @ table.T, index, axis=1)

    def some(x: tuple[Array, Array]) -> Array:
        own, at = x
        return jnp.einsum("bd,bhd->bh", own, jnp.take(table, at, axis=0, mode="clip"))

    parts = -(-index.size * table.shape[1] // IN_CACHE)
    size = -(-len(rows) // min(parts, len(rows)))
    found = jax.lax.map(some, (cut(rows, size), cut(index, size)))
    return found.reshape(-1, index.shape[1])[: len(rows)]


def _pairs_forward(rows: Array, table: Array, index: Array) -> tuple[Array, tuple[Array, ...]]:
    return pairs(rows, table, index), (rows, table, index)


def _pairs_backward(kept: tuple[Array, ...], g: Array) -> tuple[Array, Array, None]:
    rows, table, index = kept
    spread = jnp.zeros((len(rows), len(table)), g.dtype)
    spread = spread.at[jnp.arange(len(rows))[:, None], index].add(g)
    return spread @ table, spread.T @ rows, None


pairs.defvjp(_pairs_forward, _pairs_backward)


def content(text: Array, item: Array, hist: Array) -> tuple[Array, Array]:
    """Mean and soft maximum of cos(text of the item, text of a history item), each [B].

    text [U, Dt], item [B] and hist [B, H] index it; 0 is padding. 0 where there is no history.
    """
    directions = unit(text)
    cosines = pairs(jnp.take(directions, item, axis=0), directions, hist)
    keep = (hist > 0).astype(cosines.dtype)
    total = jnp.maximum(jnp.sum(keep, 1), 1.0)
    weights = nn.softmax(jnp.where(keep > 0, 10.0 * cosines, -1e9), axis=1) * keep
    return jnp.sum(cosines * keep, 1) / total, jnp.sum(cosines * weights, 1)


def interest(logits: Array, category: Array) -> Array:
    """log p_u(category of the item) [B]; logits [B, C]; category [B] with 0 = unknown -> 0."""
    logp = nn.log_softmax(logits, axis=-1)
    own = jnp.take_along_axis(logp, category[:, None], axis=1)[:, 0]
    return jnp.where(category > 0, own, 0.0)


class Fusion(nn.Module):
    """fused = sum_k gate_k (a_k s_k + c_k); gate = softmax(W [context, user]) and can be read.

    scores [B, 4] in the order of SCORES. Returns fused [B] and gate [B, 4].
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, scores: Array, context: Array, user: Array) -> tuple[Array, Array]:
        n = scores.shape[-1]
        logits = nn.Dense(n, kernel_init=nn.initializers.zeros, name="gate")(
            jnp.concatenate([context, user], -1)
        )
        gate = nn.softmax(logits, axis=-1)
        scale = self.param("scale", nn.initializers.ones, (n,))
        shift = self.param("shift", nn.initializers.zeros, (n,))
        return jnp.sum(gate * (scores * scale + shift), -1), gate
