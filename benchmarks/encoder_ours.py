"""The worker that runs the project's encoder: `python -m benchmarks.encoder_ours`."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.encoder_data import SHAPES, VOCABULARY, HostArray, groups, rows, save
from benchmarks.kernels import of_step
from benchmarks.memory import peak_mib
from benchmarks.peak import of_jax
from benchmarks.recommender_ours import config_of
from benchmarks.turns import serve
from mtl_jax.adapt.hf_weights import load_encoder
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.core.pieces import give_back_pieces
from mtl_jax.core.types import Array, Params
from mtl_jax.data.packing import pack_tokens
from mtl_jax.job import prepare_data
from mtl_jax.nn.attention import KERNELS
from mtl_jax.nn.encoder import Encoder, EncoderConfig, init_params
from mtl_jax.nn.pooling import pool, pool_rows

BUCKETS = (32, 64, 128, 256, 512)
GROUPS = 8
REMAT = {"remat": "layers", "remat-activations": "activations"}
VARIANTS = ("packed", "padded", "buckets", "grouped", "bfloat16", *REMAT, *KERNELS)


@dataclass
class Open:
    """A model and its texts; entries: a function of a number of steps."""

    config: EncoderConfig
    params: Params
    tokens: HostArray
    offsets: HostArray
    weights: HostArray
    length: int
    entries: dict[str, Callable[[int], None]] = field(default_factory=dict)

    @property
    def lengths(self) -> HostArray:
        """Tokens of each text."""
        return np.diff(self.offsets)


_open: list[Open] = []


def item_texts(data: str, length: int, n: int) -> tuple[HostArray, HostArray]:
    """tokens and offsets of n distinct item texts cut to `length`: every second one with its plot.

    So lengths are those of a catalogue of which half has no description.
    """
    found = []
    for texts in ("titles", "plots"):
        config = config_of(data, texts, 64, 50, 0)
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, max_tokens=length)
        )
        with tempfile.TemporaryDirectory() as folder:
            items = prepare_data(config, Path(folder)).items
            found.append((np.array(items["tokens"]), np.array(items["token_offsets"])))
    which = np.random.default_rng(0).permutation(np.arange(1, len(found[0][1]) - 1))[:n]
    parts = []
    for k, item in enumerate(which):
        tokens, offsets = found[k % 2]
        parts.append(tokens[offsets[item] : offsets[item + 1]])
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def open_world(model: str, length: int, texts: int, data: str, path: str) -> dict[str, Any]:
    """Reads or draws the weights and writes the texts for torch to `path`.

    Returns the texts' lengths and, of MiniLM, the vectors of the first four (`head`), without
    dropout.
    """
    _open.clear()
    jax.clear_caches()
    config, params = load_encoder(minilm_folder())
    if model != "minilm":
        H, layers, heads, ffn = SHAPES[model]
        config = EncoderConfig("bert", VOCABULARY, H, layers, heads, ffn, 512)
        params = init_params(config, jax.random.PRNGKey(0))
    params = {k: v for k, v in params.items() if k != "pooler"}
    tokens, offsets = item_texts(data, length, texts)
    shape = (texts, config.width)
    weights = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    save(Path(path), tokens, offsets, weights)
    o = Open(config, params, tokens, offsets, weights, length)
    _open.append(o)
    head: list[list[float]] = []
    if model == "minilm":
        run, arrays, _ = layout(o, "packed")
        with jax.default_matmul_precision("float32"):
            vectors = jax.jit(lambda p: run(config, p, arrays, None))(params)
        head = np.asarray(vectors[:4]).tolist()
    return {"lengths": o.lengths.tolist(), "head": head}


Run = Callable[[EncoderConfig, Params, Any, Array | None], Array]


def layout(o: Open, name: str) -> tuple[Run, Any, int]:
    """(vectors [n, H] from arrays; the arrays; tokens computed, padding included) of a layout."""
    n = len(o.lengths)
    everything = np.arange(n)
    if name not in ("padded", "buckets", "grouped"):
        packs = pack_tokens(o.tokens, o.offsets, everything, o.length)

        def packed(config: EncoderConfig, params: Params, a: Any, key: Array | None) -> Array:
            hidden: Any = Encoder(config).apply(
                {"params": params},
                a["ids"],
                segment_ids=a["segments"],
                position_ids=a["positions"],
                deterministic=key is None,
                rngs=None if key is None else {"dropout": key},
            )
            return pool(hidden, a["owner"], a["positions"], n, "mean")

        return packed, packs, packs["ids"].size
    if name == "padded":
        parts = [(everything, o.length)]
    elif name == "grouped":
        cut = groups(o.lengths, GROUPS)
        parts = [(g, -(-int(o.lengths[g].max()) // 8) * 8) for g in cut]
    else:
        of = np.searchsorted(BUCKETS, o.lengths)
        parts = [(np.flatnonzero(of == b), BUCKETS[b]) for b in np.unique(of)]
    arrays = [
        {"ids": rows(o.tokens, o.offsets, which, width), "lengths": o.lengths[which]}
        for which, width in parts
    ]
    back = np.argsort(np.concatenate([which for which, _ in parts]))

    def by_rows(config: EncoderConfig, params: Params, a: Any, key: Array | None) -> Array:
        found = []
        for k, part in enumerate(a):
            mask = jnp.arange(part["ids"].shape[1])[None] < part["lengths"][:, None]
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, k)}
            hidden: Any = Encoder(config).apply(
                {"params": params},
                part["ids"],
                attention_mask=mask,
                deterministic=key is None,
                rngs=rngs,
            )
            found.append(pool_rows(hidden, mask, "mean"))
        return jnp.concatenate(found)[back]

    return by_rows, arrays, sum(a["ids"].size for a in arrays)


def prepare(name: str, half: bool = False) -> dict[str, Any]:
    """Compiles "forward" or "train", or "train <variant>" of `VARIANTS`; seconds of a step.

    half: bfloat16 in every variant.
    """
    (o,) = _open
    kind, _, variant = name.partition(" ")
    dtype = "bfloat16" if half or variant == "bfloat16" else "float32"
    config = dataclasses.replace(o.config, dtype=dtype, remat=REMAT.get(variant, "none"))
    if variant in KERNELS:
        config = dataclasses.replace(config, attention=variant)
    run, arrays, computed = layout(o, variant)
    arrays, weights = jax.device_put((arrays, jnp.asarray(o.weights)))
    entry = _forward if kind == "forward" else _train
    o.entries[name], memory = entry(config, o.params, run, arrays, weights)
    give_back_pieces()
    o.entries[name](1)
    began = time.perf_counter()
    peak = peak_mib(lambda: o.entries[name](1))
    told = {"temporary_mib": memory.temp_size_in_bytes / 2**20, "resident_mib": peak}
    return {"seconds": time.perf_counter() - began, "computed_tokens": computed, **told}


def _forward(config: Any, params: Any, run: Run, arrays: Any, weights: Array) -> Any:
    compiled = jax.jit(lambda p, a: run(config, p, a, None)).lower(params, arrays).compile()
    held = jax.device_put(params)

    def steps(n: int) -> None:
        for _ in range(n):
            out = compiled(held, arrays)
        jax.block_until_ready(out)

    return steps, compiled.memory_analysis()


def _train(config: Any, params: Any, run: Run, arrays: Any, weights: Array) -> Any:
    tx = optax.adamw(1e-6, weight_decay=0.01)

    def step(state: Any, a: Any, w: Array) -> Any:
        p, opt, key = state

        def loss(p: Params) -> Array:
            return jnp.sum(run(config, p, a, key) * w)

        value, grads = jax.value_and_grad(loss)(p)
        updates, opt = tx.update(grads, opt, p)
        return (optax.apply_updates(p, updates), opt, jax.random.split(key)[0]), value

    first = jax.tree.map(jnp.array, params)
    held = [(first, tx.init(first), jax.random.PRNGKey(0))]
    compiled = jax.jit(step, donate_argnums=0).lower(held[0], arrays, weights).compile()

    def steps(n: int) -> None:
        for _ in range(n):
            held[0], value = compiled(held[0], arrays, weights)
        jax.block_until_ready((held[0], value))
        if not np.isfinite(value):
            raise FloatingPointError("the loss is not finite")

    return steps, compiled.memory_analysis()


def run(name: str, steps: int) -> float:
    """Seconds of so many steps."""
    (o,) = _open
    began = time.perf_counter()
    o.entries[name](steps)
    return time.perf_counter() - began


def kernels(name: str) -> list[list[Any]]:
    """`kernels.of_step`."""
    (o,) = _open
    return of_step(lambda: o.entries[name](1))


if __name__ == "__main__":
    serve({"open": open_world, "prepare": prepare, "run": run, "peak": of_jax, "kernels": kernels})
