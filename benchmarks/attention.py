"""Attention of packed rows on a GPU: our kernel against a block mask, cuDNN's and JAX's own.

python -m benchmarks.attention [--rows=138] [--tokens=512] [--heads=12] [--depth=64]

Real lengths of item texts, every second one with its plot, packed; bfloat16. Each is compared with
float32 first: the greatest distance of a gradient, relative to its norm. `drop` drops a tenth of
the probabilities, which cuDNN's and JAX's cannot do by a key.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.gpu.attention import mha

from benchmarks.encoder_ours import item_texts
from mtl_jax.data.packing import pack_tokens
from mtl_jax.nn.attention import attend, by_flash, segments_of

RATE = 0.1
Array = Any


def ways(ids: Array) -> dict[str, Callable[..., Array]]:
    """Functions of query, key and value [B, N, L, D]."""
    allowed, key = segments_of(None, ids, ids.shape).allowed, jax.random.key(0)

    def cudnn(*qkv: Array) -> Array:
        q, k, v = (x.transpose(0, 2, 1, 3) for x in qkv)
        found = jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation="cudnn")
        return found.transpose(0, 2, 1, 3)

    def pallas(*qkv: Array) -> Array:
        q, k, v = (x.transpose(0, 2, 1, 3) for x in qkv)
        return mha(q, k, v, ids, sm_scale=q.shape[-1] ** -0.5).transpose(0, 2, 1, 3)

    return {
        "flash": partial(by_flash, ids=ids),
        "flash, drop": partial(by_flash, ids=ids, rate=RATE, drop_key=key),
        "mask": partial(attend, allowed=allowed),
        "mask, drop": partial(attend, allowed=allowed, rate=RATE, drop_key=key),
        "cudnn, the mask as a bias": cudnn,
        "jax's pallas mha": pallas,
    }


def gradients(f: Callable[..., Array], real: Array, weight: Array) -> Callable[..., Any]:
    """Compiled: gradients of a sum over what is no padding."""

    def loss(*qkv: Array) -> Array:
        return jnp.sum(jnp.where(real, f(*qkv).astype(jnp.float32) * weight, 0.0))

    return jax.jit(jax.grad(loss, (0, 1, 2)))


def milliseconds(f: Callable[..., Any], *x: Array, calls: int = 10) -> float:
    """Of a call, the best of three times so many."""
    jax.block_until_ready(f(*x))
    found = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(calls):
            out = f(*x)
        jax.block_until_ready(out)
        found.append((time.perf_counter() - began) / calls)
    return 1e3 * min(found)


def distance(found: Any, wanted: Any) -> float:
    """The greatest of arrays, relative."""
    apart = [
        jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b)
        for a, b in zip(found, wanted, strict=True)
    ]
    return float(max(apart))


def main() -> None:
    """Prints a table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "benchmarks.attention", description=__doc__, formatter_class=raw
    )
    for name, value in (("rows", 138), ("tokens", 512), ("heads", 12), ("depth", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--data", default="../shared/data/ml-1m-collm")
    o = parser.parse_args()
    if jax.default_backend() != "gpu":
        sys.exit("benchmarks.attention needs a GPU: on a CPU `mask` is all there is")
    tokens, offsets = item_texts(o.data, o.tokens, 3000)
    packed = pack_tokens(tokens, offsets, np.arange(len(offsets) - 1), o.tokens)
    ids = jnp.asarray(packed["segments"][: o.rows])
    shape = (len(ids), o.heads, o.tokens, o.depth)
    *qkv, weight = (jax.random.normal(jax.random.key(n), shape) for n in range(4))
    real = (ids > 0)[:, None, :, None]
    with jax.default_matmul_precision("float32"):
        exact = {
            drop: gradients(ways(ids)[f"mask{drop}"], real, weight)(*qkv) for drop in ("", ", drop")
        }
    half = [x.astype(jnp.bfloat16) for x in qkv]
    print("| attention | forward | forward and backward | distance |\n|---|---|---|---|")
    for name, f in ways(ids).items():
        both = gradients(f, real, weight)
        apart = distance(both(*half), exact[", drop" if name.endswith("drop") else ""])
        times = f"{milliseconds(jax.jit(f), *half):.3f} ms | {milliseconds(both, *half):.3f} ms"
        print(f"| {name} | {times} | {apart:.4f} |", flush=True)


if __name__ == "__main__":
    main()
