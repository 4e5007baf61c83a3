"""Attention within the segments of packed rows, by the kernel that suits the device.

Shapes: B rows, L tokens, N heads, D depth of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.gpu.attention import mha

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array

# "mask": products and a block mask, on every device. "cudnn": cuDNN's fused attention, the mask as
# a bias; a GPU and bfloat16. "pallas": a kernel that reads segment ids and no [L, L] of anything; a
# GPU. The last two do not drop attention probabilities.
KERNELS = ("mask", "cudnn", "pallas")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Segments:
    """Who may attend to whom: equal ids above 0; ids int [B, L], or None for everybody to all.

    allowed: the same as bool [B, 1, 1 or L, L] (queries, keys).
    """

    ids: Array | None
    allowed: Array | None


def segments_of(
    attention_mask: Array | None, segment_ids: Array | None, shape: tuple[int, ...]
) -> Segments:
    """From what HF's tokenizers give (0 = padding) and packing gives; both [B, L] or None."""
    for name, given in (("attention_mask", attention_mask), ("segment_ids", segment_ids)):
        if given is not None and jnp.shape(given) != shape:
            raise UserError(f"{name} has shape {jnp.shape(given)}, the tokens have {shape}")
    ids, allowed = None, None
    if attention_mask is not None:
        real = jnp.asarray(attention_mask) != 0
        ids, allowed = real.astype(jnp.int32), real[:, None, None, :]
    if segment_ids is not None:
        segments = jnp.asarray(segment_ids)
        same = (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, None, :]
        allowed = same[:, None] if allowed is None else same[:, None] & allowed
        ids = segments if ids is None else segments * ids
    return Segments(ids, allowed)


def attention(
    kernel: str,
    query: Array,
    key: Array,
    value: Array,
    segments: Segments,
    drop: Callable[[Array], Array],
) -> Array:
    """Softmax attention of heads laid out [B, N, L, D] by one of `KERNELS`; see `attend`.

    Raises:
      UserError: the kernel needs a GPU, or rows of another length.
    """
    if kernel == "mask":
        return attend(query, key, value, segments.allowed, drop)
    if jax.default_backend() != "gpu":
        raise UserError(f"encoder.attention={kernel} needs a GPU: use mask")
    if kernel == "pallas":
        return by_segments(query, key, value, segments.ids)
    return fused(query, key, value, segments.allowed, "cudnn")


def attend(
    query: Array, key: Array, value: Array, allowed: Array | None, drop: Callable[[Array], Array]
) -> Array:
    """Softmax attention of heads laid out [B, N, L, D] (batch, heads, time, depth).

    Args:
      query, key, value: [B, N, L, D].
      allowed: bool, broadcastable to [B, N, L, L] (queries, keys), or None for all. A query
        that may attend nowhere gets the mean of all values, so it stays finite; what it
        gives belongs to no text.
      drop: applied to the probabilities.

    Returns:
      [B, N, L, D] in the dtype of value.
    """
    scores = jnp.einsum("bnqd,bnkd->bnqk", query * query.shape[-1] ** -0.5, key)
    scores = scores.astype(jnp.float32)
    if allowed is not None:
        scores = scores + jnp.where(allowed, 0.0, jnp.finfo(jnp.float32).min)
    # Divided by their sum after the values are added up: on [B, N, L, D], not on [B, N, L, L].
    peak = jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True))
    weights = jnp.exp(scores - peak)
    total = jnp.sum(weights, -1, keepdims=True)
    found = jnp.einsum("bnqk,bnkd->bnqd", drop(weights).astype(value.dtype), value)
    return (found / total).astype(value.dtype)


def fused(
    query: Array, key: Array, value: Array, allowed: Array | None, by: Literal["cudnn", "xla"]
) -> Array:
    """JAX's attention, `by` "cudnn" or "xla", of [B, N, L, D]; `allowed` as in `attend`."""
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    found = jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation=by)
    return found.transpose(0, 2, 1, 3)


def by_segments(
    query: Array, key: Array, value: Array, ids: Array | None, interpret: bool = False
) -> Array:
    """JAX's Pallas kernel of [B, N, L, D] with segment ids [B, L] (FlashAttention,
    arXiv:2205.14135).

    What padding gives is finite and means nothing.  interpret: run it without a GPU, slowly.
    """
    L, D = query.shape[-2:]
    if L not in (16, 32, 64) and L % 128:
        raise UserError(
            f"encoder.attention=pallas: rows of {L} tokens; encoder.row_tokens must be 32, 64 or a "
            "multiple of 128"
        )
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    found: Array = mha(q, k, v, ids, sm_scale=D**-0.5, interpret=interpret)
    return found.transpose(0, 2, 1, 3)
