"""Attention within the segments of packed rows, by the kernel that suits the device; one query.

Shapes: B rows, L tokens, N heads, D depth of a head; H events of a history, M their width.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array
from mtl_jax.nn.dropout import drop, seed_of
from mtl_jax.nn.flash import flash, readable

# "mask": products and a block mask, on every device. "flash": `mtl_jax.nn.flash`, which stores no
# [L, L] of anything; a GPU. "auto": flash where there is one NVIDIA GPU, of Ampere or later.
KERNELS = ("auto", "mask", "flash")
IN_CACHE = 800_000  # probabilities that a CPU works on at a time: 3 MB in float32


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
    rate: float = 0.0,
    drop_key: Array | None = None,
) -> Array:
    """Softmax attention of heads laid out [B, N, L, D] by one of `KERNELS`; see `attend`.

    Raises:
      UserError: flash has no GPU here, or cannot read such rows or heads.
    """
    if kernel == "mask" or (kernel == "auto" and not _flash_suits(*query.shape[2:])):
        return attend(query, key, value, segments.allowed, rate, drop_key)
    if jax.default_backend() != "gpu":
        raise UserError("encoder.attention=flash needs a GPU: use auto")
    return by_flash(query, key, value, segments.ids, rate, drop_key)


def _flash_suits(L: int, D: int) -> bool:
    # Of several devices each would run all rows: XLA does not divide such a kernel.
    if jax.default_backend() != "gpu" or jax.device_count() > 1:
        return False
    made = str(getattr(jax.devices()[0], "compute_capability", ""))  # "9.0"; AMD's has letters
    return made.replace(".", "").isdigit() and float(made) >= 8 and readable(L, D)


def by_flash(
    query: Array,
    key: Array,
    value: Array,
    ids: Array | None,
    rate: float = 0.0,
    drop_key: Array | None = None,
    interpret: bool = False,
) -> Array:
    """`mtl_jax.nn.flash` of [B, N, L, D] with segment ids [B, L]; None is everybody to all.

    Drops what `attend` drops. interpret: run it without a GPU, slowly.
    """
    B, _, L, _ = query.shape
    if ids is None:
        ids = jnp.ones((B, L), jnp.int32)
    seed = jnp.zeros(2, jnp.uint32) if drop_key is None else seed_of(drop_key)
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    found: Array = flash(q, k, v, ids, seed, 0.0 if drop_key is None else rate, interpret)
    return found.transpose(0, 2, 1, 3)


def attend(
    query: Array,
    key: Array,
    value: Array,
    allowed: Array | None,
    rate: float = 0.0,
    drop_key: Array | None = None,
) -> Array:
    """Softmax attention of heads laid out [B, N, L, D] (batch, heads, time, depth).

    On a CPU a few rows at a time, whose probabilities fit its cache, and again in the backward
    pass: 1.1 to 1.4 times as fast (L 32 to 256), and no [B, N, L, L] is ever held.

    Args:
      query, key, value: [B, N, L, D].
      allowed: bool, broadcastable to [B, 1, L, L] (queries, keys), or None for all. A query
        that may attend nowhere gets the mean of all values, so it stays finite; what it
        gives belongs to no text.
      rate, drop_key: dropout of the probabilities; None drops nothing.

    Returns:
      [B, N, L, D] in the dtype of value.
    """
    B, N, L, _ = query.shape
    parts = -(-B * N * L * L // IN_CACHE) if jax.default_backend() == "cpu" else 1
    if parts == 1:
        return _attend(query, key, value, allowed, rate, drop_key)
    rows = -(-B // min(parts, B))

    def part(x: tuple[Array, dict[str, Array]]) -> Array:
        n, own = x
        own_key = None if drop_key is None else jax.random.fold_in(drop_key, n)
        return _attend(own["q"], own["k"], own["v"], own.get("allowed"), rate, own_key)

    arrays = {"q": query, "k": key, "v": value}
    if allowed is not None:
        arrays["allowed"] = jnp.broadcast_to(allowed, (B, *allowed.shape[1:]))
    cuts = {name: cut(x, rows) for name, x in arrays.items()}
    found = jax.lax.map(jax.checkpoint(part), (jnp.arange(len(cuts["q"])), cuts))
    return found.reshape(-1, *query.shape[1:])[:B]


def cut(x: Array, rows: int) -> Array:
    """[B, ...] -> [slices, rows, ...], the last one filled up with zeros."""
    parts = -(-len(x) // rows)
    spare = [(0, parts * rows - len(x))] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, spare).reshape(parts, rows, *x.shape[1:])


def _attend(
    query: Array,
    key: Array,
    value: Array,
    allowed: Array | None,
    rate: float,
    drop_key: Array | None,
) -> Array:
    scores = jnp.einsum("bnqd,bnkd->bnqk", query * query.shape[-1] ** -0.5, key)
    scores = scores.astype(jnp.float32)
    if allowed is not None:
        scores = scores + jnp.where(allowed, 0.0, jnp.finfo(jnp.float32).min)
    # Divided by their sum after the values are added up: on [B, N, L, D], not on [B, N, L, L].
    peak = jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True))
    weights = jnp.exp(scores - peak)
    total = jnp.sum(weights, -1, keepdims=True)
    dropped = drop(weights, rate, drop_key).astype(value.dtype)
    found = jnp.einsum("bnqk,bnkd->bnqd", dropped, value)
    return (found / total).astype(value.dtype)


@jax.custom_vjp
def glance(asked: Array, x: Array, keep: Array) -> Array:
    """Softmax of asked . x over a history, and x's mean under it.

    The gradient of x is 2 N outer products a row, written out: a CPU has small products of many
    rows at an eighth of its peak. What they are made of is finished first: fused with it, each
    element of it would be computed anew for every element of the gradient.

    Args:
      asked: [B, N, M], scaled.
      x: [B, H, M].
      keep: bool [B, H]; a row that keeps nothing gets zeros.

    Returns:
      [B, N, M] in the dtype of x.
    """
    return _glance(asked, x, keep)[0]


def _glance(asked: Array, x: Array, keep: Array) -> tuple[Array, Array]:
    logits = jnp.einsum("bnm,bhm->bnh", asked, x).astype(jnp.float32)
    weights = jax.nn.softmax(jnp.where(keep[:, None], logits, -1e9), axis=-1) * keep[:, None]
    return jnp.einsum("bnh,bhm->bnm", weights.astype(x.dtype), x), weights


def _glance_forward(asked: Array, x: Array, keep: Array) -> tuple[Array, tuple[Array, ...]]:
    found, weights = _glance(asked, x, keep)
    return found, (asked, x, weights)


def _glance_backward(kept: tuple[Array, ...], g: Array) -> tuple[Array, Array, None]:
    asked, x, weights = kept
    of_weights = jnp.einsum("bnm,bhm->bnh", g, x).astype(jnp.float32)
    mean = jnp.sum(weights * of_weights, -1, keepdims=True)
    of_logits = (weights * (of_weights - mean)).astype(x.dtype)
    of_asked = jnp.einsum("bnh,bhm->bnm", of_logits, x)
    both = jnp.concatenate([weights.astype(x.dtype), of_logits], 1)
    both, given = jax.lax.optimization_barrier((both, jnp.concatenate([g, asked], 1)))
    both, given = both.astype(jnp.float32), given.astype(jnp.float32)
    of_x = sum(both[:, i, :, None] * given[:, i, None] for i in range(both.shape[1]))
    return of_asked, of_x.astype(x.dtype), None


glance.defvjp(_glance_forward, _glance_backward)
