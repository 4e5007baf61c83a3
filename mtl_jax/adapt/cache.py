"""Outputs of the frozen part of an encoder, computed once per item and memory-mapped.

Two kinds: one pooled vector per text when the whole encoder is frozen, and the token states under
the lowest layer that trains. Keys hash what decides the values: the frozen weights, the encoder's
constants, the tokens (which tokenizer and texts decide), pooling or cut, and the dtype.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mtl_jax.adapt.encode import Texts, count_texts, encode_pooled, encode_states
from mtl_jax.adapt.progress import Callback
from mtl_jax.adapt.store import ArraySpec, load_or_build
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray, Params
from mtl_jax.nn.encoder import EncoderConfig
from mtl_jax.nn.pooling import check_pooling

FORMAT = 1  # raise it when the same key would give other numbers

# Decide nothing about a frozen output.
_NOT_IN_KEY = (
    "hidden_dropout",
    "attention_dropout",
    "init_range",
    "has_pooler",
    "remat",
    "attention",
)


def pooled_vectors(
    folder: str | Path,
    config: EncoderConfig,
    params: Params,
    tokens: HostArray,
    offsets: HostArray,
    pooling: str,
    *,
    types: HostArray | None = None,
    tokenizer: str = "",
    progress: Callback | None = None,
    call_tokens: int = 4096,
) -> HostArray:
    """One vector per text, from the cache when it is there.

    Args:
      folder: where caches live.
      config, params: the whole encoder (with "pooler" for that pooling).
      tokens: int32 [total]; offsets: int64 [n + 1]; text t is tokens[offsets[t]:offsets[t + 1]].
      pooling: "mean", "cls" or "pooler".
      types: int [total], the token types of text pairs; None for single texts.
      tokenizer: a hash or name of what made the tokens; part of the key.
      progress: called with (texts done, texts); see `progress_bar`.
      call_tokens: tokens per call of the encoder.

    Returns:
      float32 [n, H], read-only and memory-mapped; zeros for an empty text.

    Raises:
      UserError: ids or lengths the encoder cannot read, a damaged cache, a full disk, or values
        that are not finite.
    """
    check_pooling(pooling, "pooler" in params)
    texts = Texts(tokens, offsets, types)
    texts.check(config)
    used = {k: v for k, v in params.items() if k != "pooler" or pooling == "pooler"}
    key = {**_key(config, used, texts, tokenizer), "pooling": pooling, "dtype": "float32"}

    def build(arrays: dict[str, HostArray]) -> None:
        more = count_texts(texts.lengths, progress)
        for which, vectors in encode_pooled(config, used, texts, pooling, call_tokens):
            _refuse_non_finite(vectors)
            arrays["vectors"][which] = vectors
            more(which.size)

    specs = {"vectors": ArraySpec((texts.lengths.size, config.width), "float32")}
    return load_or_build(Path(folder), f"pooled-{pooling}", key, specs, build)["vectors"]


def token_states(
    folder: str | Path,
    config: EncoderConfig,
    params: Params,
    tokens: HostArray,
    offsets: HostArray,
    cut_layer: int,
    *,
    types: HostArray | None = None,
    tokenizer: str = "",
    progress: Callback | None = None,
    call_tokens: int = 4096,
) -> tuple[HostArray, HostArray]:
    """States of every token below layer `cut_layer`, from the cache when they are there.

    Arguments as `pooled_vectors`; of params only the embeddings and the layers below the cut are
    used and hashed. `cut_layer` 0 keeps the embeddings' output, config.layers the last states.

    Returns:
      (states, offsets): bfloat16 [total, H] (`ml_dtypes`; read-only, memory-mapped), aligned with
      tokens, so that text t is states[offsets[t]:offsets[t + 1]]. Rounding to bfloat16 costs up
      to 0.4 % of each value.
    """
    if not 0 <= cut_layer <= config.layers:
        raise UserError(f"cut_layer {cut_layer}: the encoder has {config.layers} layers")
    texts = Texts(tokens, offsets, types)
    texts.check(config)
    names = ("embeddings", *(f"layer_{n}" for n in range(cut_layer)))
    used = {name: params[name] for name in names}
    key = {**_key(config, used, texts, tokenizer), "cut_layer": cut_layer, "dtype": "bfloat16"}

    def build(arrays: dict[str, HostArray]) -> None:
        more = count_texts(texts.lengths, progress)
        for place, states, done in encode_states(config, used, texts, cut_layer, call_tokens):
            _refuse_non_finite(states)
            arrays["states"][place] = states.view(np.uint16)
            more(done)

    # .npy has no name for bfloat16: its bits are stored.
    specs = {"states": ArraySpec((int(texts.tokens.size), config.width), "uint16")}
    bits = load_or_build(Path(folder), f"states-{cut_layer}", key, specs, build)["states"]
    return bits.view(ml_dtypes.bfloat16), np.asarray(offsets, np.int64)


def hash_params(params: Mapping[str, Any]) -> str:
    """sha256 over names, shapes, dtypes and bytes of a tree of arrays, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(params):
        value = params[name]
        digest.update(f"{name}{{".encode())
        if isinstance(value, Mapping):
            digest.update(hash_params(value).encode())
        else:
            array = np.asarray(value)
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _key(config: EncoderConfig, used: Params, texts: Texts, tokenizer: str) -> dict[str, Any]:
    constants = {k: v for k, v in asdict(config).items() if k not in _NOT_IN_KEY}
    content = {
        "tokens": np.asarray(texts.tokens, np.int32),
        "offsets": np.asarray(texts.offsets, np.int64),
    }
    if texts.types is not None:
        content["types"] = np.asarray(texts.types, np.int32)
    return {
        "format": FORMAT,
        "config": constants,
        "weights": hash_params(used),
        "texts": hash_params(content),
        "tokenizer": tokenizer,
    }


def _refuse_non_finite(values: HostArray) -> None:
    if not np.isfinite(values.astype(np.float32)).all():
        raise UserError("the encoder gave values that are not finite: its weights are damaged")
