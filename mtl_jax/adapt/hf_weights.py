"""HF model folders into (EncoderConfig, parameters): one strict mapping, no torch.

Strict both ways: a parameter without a tensor, or an encoder tensor without a parameter, is an
error; tensors of task heads are ignored and named in the log.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from absl import logging

from mtl_jax.adapt.families import FAMILIES, Entry, Family
from mtl_jax.adapt.tensor_files import read_json, read_tensors
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.nn.encoder import EncoderConfig

# What task models and wrappers put before the encoder's own names.
PREFIXES = ("", "bert.", "roberta.", "electra.", "distilbert.", "backbone.", "model.")
_FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)


def load_encoder(
    folder: str | Path, *, model_type: str | None = None, dtype: str = "float32"
) -> tuple[EncoderConfig, dict[str, Any]]:
    """Read `config.json` and the weights (safetensors or `.bin`, sharded or not) of a folder.

    Args:
      folder: a HF model folder.
      model_type: the family, for a config.json that does not say.
      dtype: compute dtype of the config returned; the parameters are float32 in any case.

    Returns:
      (config, params): params are nested dicts of numpy float32 arrays, named as in
      `mtl_jax.nn.encoder`; put them where they shall live. `config.has_pooler` tells whether
      params["pooler"] is there.

    Raises:
      UserError: a file missing or damaged, an unsupported model_type, a tensor missing, unknown,
        of another shape or of no floating type. The message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give a HF model folder with config.json")
    raw = read_json(folder / "config.json")
    try:
        kind = _model_type(raw, model_type)
        family = FAMILIES[kind]
        config = replace(family.config(raw, kind), dtype=dtype)
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    tensors, source = read_tensors(folder)
    try:
        named = _backbone(_modern_names(tensors), family)
        config = replace(config, has_pooler=any(n.startswith("pooler.") for n in named))
        return config, _fill(named, family.entries(config))
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _model_type(raw: dict[str, Any], given: str | None) -> str:
    stated = raw.get("model_type")
    if stated and given and stated != given:
        raise UserError(f"model_type is {stated!r}, but {given!r} was asked for")
    kind = stated or given
    supported = ", ".join(FAMILIES)
    if not kind:
        raise UserError(f"no model_type: pass model_type= (one of {supported})")
    if kind not in FAMILIES:
        raise UserError(f"model_type {kind!r} is not supported: one of {supported}")
    return str(kind)


def _modern_names(tensors: dict[str, HostArray]) -> dict[str, HostArray]:
    """LayerNorm.gamma and .beta, as the first BERTs call them, become weight and bias."""
    renamed: dict[str, HostArray] = {}
    for name, tensor in tensors.items():
        modern = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        modern = modern.replace("LayerNorm.beta", "LayerNorm.bias")
        if modern in renamed:
            raise UserError(f"{modern} is there twice, under its old name and its new one")
        renamed[modern] = tensor
    return renamed


def _backbone(tensors: dict[str, HostArray], family: Family) -> dict[str, HostArray]:
    """The encoder's tensors without their prefix; the rest is logged."""
    prefix = _find_prefix(tensors, family.anchor)
    named: dict[str, HostArray] = {}
    ignored = []
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        ours = name.startswith(prefix) and bare.startswith(family.backbone)
        if ours and bare not in family.buffers:
            named[bare] = tensor
        else:
            ignored.append(name)
    if ignored:
        logging.info("ignored, no part of the encoder: %s", ", ".join(sorted(ignored)))
    return named


def _find_prefix(tensors: dict[str, HostArray], anchor: str) -> str:
    known = {a + b for a in PREFIXES for b in PREFIXES}
    found = sorted(n.removesuffix(anchor) for n in tensors if n.endswith(anchor))
    usable = [prefix for prefix in found if prefix in known]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise UserError(f"several encoders in one file: {', '.join(p + anchor for p in usable)}")
    seen = f"{anchor} stands behind {', '.join(map(repr, found))}" if found else f"no {anchor}"
    raise UserError(f"{seen}: no encoder behind a known prefix ({', '.join(PREFIXES[1:])} or none)")


def _fill(named: dict[str, HostArray], entries: list[Entry]) -> dict[str, Any]:
    """The parameter tree, every entry filled and every tensor used."""
    missing = [e.name for e in entries if e.name not in named]
    if missing:
        raise UserError(f"{len(missing)} parameters have no tensor: {_some(missing)}")
    unused = sorted(set(named) - {e.name for e in entries})
    if unused:
        raise UserError(
            f"{len(unused)} encoder tensors have no place under this config: {_some(unused)}"
        )
    params: dict[str, Any] = {}
    for entry in entries:
        level = params
        for key in entry.path[:-1]:
            level = level.setdefault(key, {})
        level[entry.path[-1]] = _convert(named[entry.name], entry)
    return params


def _convert(tensor: HostArray, entry: Entry) -> HostArray:
    if tensor.dtype not in _FLOATS:
        raise UserError(f"{entry.name} is {tensor.dtype}, not a floating type")
    if tensor.shape != entry.shape:
        raise UserError(f"{entry.name} has shape {tensor.shape}, config.json says {entry.shape}")
    # A copy that is ours: contiguous, aligned, and independent of the file.
    return np.array(tensor.T if entry.transpose else tensor, np.float32, order="C")


def _some(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
