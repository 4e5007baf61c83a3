"""From token states to one vector per text: mean, first token, or BERT's pooler.

`pool` reads packed rows (`mtl_jax.data.packing`), `pool_rows` one text per row. Sums are taken in
float32. A text without tokens gets zeros.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array

Pooling = Literal["mean", "cls", "pooler"]


def pool(
    hidden: Array,
    owner: Array,
    position: Array,
    U: int,
    kind: str,
    pooler_params: Mapping[str, Array] | None = None,
) -> Array:
    """Vectors of the texts packed in rows.

    Args:
      hidden: [P, L, H] token states.
      owner: int [P, L], the text 0..U-1 of each token; U = padding.
      position: int [P, L], 0-based within the text.
      U: number of texts (static).
      kind: "mean" over all tokens of the text, "cls" (its first token), or "pooler"
        (tanh of a dense layer over the first token, parameters `pooler_params`).

    Returns:
      [U, H] float32.
    """
    check_pooling(kind, pooler_params is not None)
    takes = jnp.ones(owner.shape, bool) if kind == "mean" else position == 0
    weight = (takes & (owner < U)).astype(jnp.float32).reshape(-1)
    states = hidden.astype(jnp.float32).reshape(-1, hidden.shape[-1])
    where = owner.reshape(-1)
    # Padding is summed too, into segment U, which is left out.
    total = jax.ops.segment_sum(states * weight[:, None], where, num_segments=U + 1)[:U]
    count = jax.ops.segment_sum(weight, where, num_segments=U + 1)[:U, None]
    return _finish(total / jnp.maximum(count, 1.0), count > 0, kind, pooler_params)


def pool_rows(
    hidden: Array,
    mask: Array | None,
    kind: str,
    pooler_params: Mapping[str, Array] | None = None,
) -> Array:
    """Vectors of rows of one text each: hidden [B, L, H], mask [B, L] or None -> [B, H] float32."""
    check_pooling(kind, pooler_params is not None)
    kept = jnp.ones(hidden.shape[:2], bool) if mask is None else jnp.asarray(mask) != 0
    states = hidden.astype(jnp.float32)
    count = kept.sum(-1, keepdims=True)
    if kind == "mean":
        total = jnp.where(kept[..., None], states, 0.0).sum(1)
        pooled = total / jnp.maximum(count, 1)
    else:
        pooled = jnp.where(count > 0, states[:, 0], 0.0)
    return _finish(pooled, count > 0, kind, pooler_params)


def check_pooling(kind: str, has_pooler: bool) -> None:
    """Refuse an unknown kind, or "pooler" where the checkpoint brings none (UserError)."""
    if kind not in ("mean", "cls", "pooler"):
        raise UserError(f"pooling {kind!r} is not known: one of mean, cls, pooler")
    if kind == "pooler" and not has_pooler:
        raise UserError(
            'pooling "pooler" needs the pooler\'s parameters and this encoder has none: '
            "use mean or cls"
        )


def _finish(
    vectors: Array, present: Array, kind: str, pooler_params: Mapping[str, Array] | None
) -> Array:
    if kind == "pooler" and pooler_params is not None:
        vectors = jnp.tanh(vectors @ pooler_params["kernel"] + pooler_params["bias"])
    return jnp.where(present, vectors, 0.0)
