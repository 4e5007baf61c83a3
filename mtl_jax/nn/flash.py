"""Attention within the segments of packed rows as GPU kernels: no [L, L] of anything is stored.

FlashAttention-2 (Dao, arXiv:2307.08691) in Pallas for Triton, with segment ids: blocks of queries
and keys that share no segment are passed over, so a row of many short texts costs little more than
they would alone. Dropout draws by a probability's place, in the backward pass again, and drops what
`mtl_jax.nn.dropout.drop` of [B, N, L, L] would.

Shapes: B rows, L tokens, N heads, D depth of a head; M blocks of a row.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array
from mtl_jax.nn.dropout import LEVELS, drawn

BLOCKS = (64, 32, 16)  # queries and keys at a time: the first that divides L
LOG2_E = math.log2(math.e)
LOW = -1e30  # under every score, and still a number


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def flash(
    query: Array,
    key: Array,
    value: Array,
    ids: Array,
    seed: Array,
    rate: float = 0.0,
    interpret: bool = False,
) -> Array:
    """Softmax attention of [B, L, N, D] among equal segment ids above 0.

    Args:
      query, key, value: [B, L, N, D].
      ids: int32 [B, L]; 0 is padding, which gets zeros.
      seed: uint32 [2]; read where `rate` is above 0.
      rate: dropout of the probabilities; equal seeds drop the same.
      interpret: run it without a GPU, slowly.

    Returns:
      [B, L, N, D] in the dtype of value.

    Raises:
      UserError: rows or heads are not `readable`.
    """
    return _forward(query, key, value, ids, seed, rate, interpret)[0]


def readable(L: int, D: int) -> bool:
    """Whether rows of L tokens and heads of depth D are what the kernels read."""
    return L % BLOCKS[-1] == 0 and D >= 16 and D & (D - 1) == 0


def _block(L: int, D: int) -> int:
    if not readable(L, D):
        raise UserError(
            f"encoder.attention=flash: rows of {L} tokens and heads of depth {D}: it reads "
            f"multiples of {BLOCKS[-1]} (encoder.row_tokens), and powers of two from 16 on"
        )
    return next(block for block in BLOCKS if L % block == 0)


def _factor(
    seed: Any, place: Any, q: Any, k: Any, L: int, shape: tuple[int, ...], rate: float
) -> Array:
    """0, or 1 over the share that stays, of queries q.. and keys k.. [shape] of row and head
    `place`."""
    down = jax.lax.broadcasted_iota(jnp.int32, shape, 0) + q
    along = jax.lax.broadcasted_iota(jnp.int32, shape, 1) + k
    at = (down * L + along).astype(jnp.uint32) + place * jnp.uint32(L * L)
    lost = round(rate * LEVELS)
    return jnp.where(drawn(at, seed) >= lost, 1.0 / (1.0 - lost / LEVELS), 0.0)


def _ranges(ids: Array, block: int) -> tuple[Array, Array]:
    """First block of a row [B, M] that shares a segment with each, and the one behind the last."""
    B, L = ids.shape
    M = L // block
    parts = ids.reshape(B, M, block)
    most = parts.max(-1)
    least = jnp.where(parts > 0, parts, np.iinfo(np.int32).max).min(-1)
    meet = (most[:, :, None] >= least[:, None]) & (least[:, :, None] <= most[:, None])
    number = jnp.arange(M, dtype=jnp.int32)
    first = jnp.where(meet, number, M).min(-1)
    return first, jnp.where(meet, number + 1, first[..., None]).max(-1)


def _scores(q: Array, k: Array, q_ids: Array, k_ids: Array) -> tuple[Array, Array]:
    """Logits to the base 2 [queries, keys] float32, and which are allowed."""
    scores = plgpu.dot(q, k.T).astype(jnp.float32) * (LOG2_E * q.shape[-1] ** -0.5)
    allowed = (q_ids[:, None] == k_ids[None, :]) & (q_ids > 0)[:, None]
    return jnp.where(allowed, scores, LOW), allowed


def _forward_kernel(*refs: Any, block: int, rate: float) -> None:
    """Block n of queries: what they see, and their log-sum-exp to the base 2."""
    seed, first, last, q_ref, k_ref, v_ref, ids, out, lse = refs
    n, L = pl.program_id(0), k_ref.shape[0]
    place = _place()
    q = q_ref[...]
    q_ids = ids[pl.dslice(n * block, block)]

    def body(m: Any, carry: Any) -> Any:
        o, peak, total = carry
        part = pl.dslice(m * block, block)
        scores, allowed = _scores(q, k_ref[part, :], q_ids, ids[part])
        higher = jnp.maximum(peak, scores.max(1))
        shrink = jnp.exp2(peak - higher)
        p = jnp.where(allowed, jnp.exp2(scores - higher[:, None]), 0.0)
        total = total * shrink + p.sum(1)
        if rate:
            p = p * _factor(seed, place, n * block, m * block, L, p.shape, rate)
        v = v_ref[part, :]
        return o * shrink[:, None] + plgpu.dot(p.astype(v.dtype), v), higher, total

    start = (
        jnp.zeros(q.shape, jnp.float32),
        jnp.full(block, LOW, jnp.float32),
        jnp.zeros(block, jnp.float32),
    )
    o, peak, total = jax.lax.fori_loop(first[n], last[n], body, start)
    total = jnp.where(total > 0, total, 1.0)
    out[...] = (o / total[:, None]).astype(out.dtype)
    lse[...] = peak + jnp.log2(total)


def _place() -> Array:
    """Number of the row and head of a program."""
    return (pl.program_id(1) * pl.num_programs(2) + pl.program_id(2)).astype(jnp.uint32)


def _backward_kernel(*refs: Any, block: int, rate: float) -> None:
    """Block n: its gradients as keys and values, then as queries."""
    seed, first, last, q_ref, k_ref, v_ref, ids, g_ref, lse, delta, of_q, of_k, of_v = refs
    n, L = pl.program_id(0), k_ref.shape[0]
    place, own = _place(), pl.dslice(n * block, block)
    scale = q_ref.shape[-1] ** -0.5

    def pair(
        queries: Any, keys: Any, q: Array, k: Array, v: Array, g: Array, at: tuple[Any, Any]
    ) -> tuple[Array, Array]:
        """Probabilities after dropout [queries, keys], and gradients of the logits."""
        scores, allowed = _scores(q, k, ids[queries], ids[keys])
        p = jnp.where(allowed, jnp.exp2(scores - lse[queries][:, None]), 0.0)
        of_p = plgpu.dot(g, v.T).astype(jnp.float32)
        kept = p
        if rate:
            factor = _factor(seed, place, at[0] * block, at[1] * block, L, p.shape, rate)
            kept, of_p = p * factor, of_p * factor
        return kept, p * (of_p - delta[queries][:, None]) * scale

    k, v = k_ref[own, :], v_ref[own, :]

    def as_keys(m: Any, carry: Any) -> Any:
        dk, dv = carry
        part = pl.dslice(m * block, block)
        q, g = q_ref[part, :], g_ref[part, :]
        kept, ds = pair(part, own, q, k, v, g, (m, n))
        dv = dv + plgpu.dot(kept.astype(g.dtype).T, g)
        return dk + plgpu.dot(ds.astype(q.dtype).T, q), dv

    zeros = jnp.zeros(k.shape, jnp.float32)
    dk, dv = jax.lax.fori_loop(first[n], last[n], as_keys, (zeros, zeros))
    of_k[...], of_v[...] = dk.astype(of_k.dtype), dv.astype(of_v.dtype)
    q, g = q_ref[own, :], g_ref[own, :]

    def as_queries(m: Any, dq: Any) -> Any:
        part = pl.dslice(m * block, block)
        k = k_ref[part, :]
        _, ds = pair(own, part, q, k, v_ref[part, :], g, (n, m))
        return dq + plgpu.dot(ds.astype(k.dtype), k)

    dq = jax.lax.fori_loop(first[n], last[n], as_queries, zeros)
    of_q[...] = dq.astype(of_q.dtype)


def _forward(
    query: Array, key: Array, value: Array, ids: Array, seed: Array, rate: float, interpret: bool
) -> tuple[Array, tuple[Array, ...]]:
    B, L, N, D = query.shape
    block = _block(L, D)
    first, last = _ranges(ids, block)
    s = _specs(B, L, N, D, block)
    out, lse = pl.pallas_call(
        functools.partial(_forward_kernel, block=block, rate=rate),
        grid=(L // block, B, N),
        in_specs=[s["seed"], s["range"], s["range"], s["own"], s["row"], s["row"], s["ids"]],
        out_specs=[s["own"], s["own_sum"]],
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, value.dtype),
            jax.ShapeDtypeStruct((B, N, L), jnp.float32),
        ],
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="flash_forward",
    )(seed, first, last, query, key, value, ids)
    return out, (query, key, value, ids, seed, out, lse)


def _backward(
    rate: float, interpret: bool, kept: tuple[Array, ...], g: Array
) -> tuple[Array | None, ...]:
    query, key, value, ids, seed, out, lse = kept
    B, L, N, D = query.shape
    block = _block(L, D)
    first, last = _ranges(ids, block)
    delta = jnp.einsum("blnd,blnd->bnl", out, g, preferred_element_type=jnp.float32)
    s = _specs(B, L, N, D, block)
    row, own = s["row"], s["own"]
    grads = pl.pallas_call(
        functools.partial(_backward_kernel, block=block, rate=rate),
        grid=(L // block, B, N),
        in_specs=[
            s["seed"], s["range"], s["range"], row, row, row, s["ids"], row, s["sum"], s["sum"],
        ],
        out_specs=[own] * 3,
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (query, key, value)],
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="flash_backward",
    )(seed, first, last, query, key, value, ids, g, lse, delta)  # fmt: skip
    return (*grads, None, None)


def _specs(B: int, L: int, N: int, D: int, block: int) -> dict[str, pl.BlockSpec]:
    """What program (n, b, h) sees: block n of row b and head h, or all of that row."""
    return {
        "seed": pl.BlockSpec((2,), lambda n, b, h: (0,)),
        "range": pl.BlockSpec((None, L // block), lambda n, b, h: (b, 0)),
        "own": pl.BlockSpec((None, block, None, D), lambda n, b, h: (b, n, h, 0)),
        "row": pl.BlockSpec((None, L, None, D), lambda n, b, h: (b, 0, h, 0)),
        "ids": pl.BlockSpec((None, L), lambda n, b, h: (b, 0)),
        "own_sum": pl.BlockSpec((None, None, block), lambda n, b, h: (b, h, n)),
        "sum": pl.BlockSpec((None, None, L), lambda n, b, h: (b, h, 0)),
    }


flash.defvjp(_forward, _backward)
