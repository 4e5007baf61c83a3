"""What the two sides of the recommender benchmarks hand over: one folder of numpy arrays.

Ours writes parameters, tables, items, texts and batches; torch, whose process may have neither jax
nor mtl_jax, reads them.

  meta.json      constants: see `recommender_ours._meta`
  params.npz     "towers/...", "heads/..." as our tree names them; kernels are [in, out]
  tables.npz     user [n_users, D + 1], item [n_items, D + 2]
  items.npz      warm [n], dense [n, F], tags [n, M], cat_<column> [n], tokens [total], offsets
  users.npz      warm [n_users]
  batches.npz    [N, B, ...] rows by ids of users and items: user, item, hist [N, B, H], ...
  states.npy     bits of bfloat16 [total, D], states under the trained layers; where some train
  vectors.npy    float32 [n, D], pooled; where the encoder is frozen
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HostArray = np.ndarray[Any, np.dtype[Any]]
BATCHES = 8  # that both sides go through again and again
ROW_KEYS = ("hist_type", "hist_age", "ctx/hour_of_week", "ctx/hour_of_year")


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, HostArray]:
    """{"a": {"b": x}} -> {"a/b": x}, as numpy."""
    found: dict[str, HostArray] = {}
    for name, value in tree.items():
        where = f"{path}/{name}" if path else name
        found |= flat(value, where) if isinstance(value, Mapping) else {where: np.asarray(value)}
    return found


def save(folder: Path, meta: Mapping[str, Any], **arrays: Any) -> None:
    """Writes the folder: a dict becomes a .npz, an array a .npy."""
    shutil.rmtree(folder, ignore_errors=True)  # another world's files would be taken for this one's
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(meta))
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            columns: Any = {k: np.asarray(v) for k, v in value.items()}
            np.savez(folder / f"{name}.npz", **columns)
        elif value is not None:
            np.save(folder / f"{name}.npy", np.asarray(value))


def load(folder: Path) -> dict[str, Any]:
    """The folder: {"meta", "params", ...}; what was not written is not there."""
    found: dict[str, Any] = {"meta": json.loads((folder / "meta.json").read_text())}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                found[path.stem] = dict(arrays)
        elif path.suffix == ".npy":
            found[path.stem] = np.load(path)
    return found


def copies(batches: Mapping[str, HostArray]) -> dict[str, float]:
    """Of these batches: texts a batch (targets and history), distinct ones, texts per distinct."""
    texts, distinct = [], []
    for item, hist in zip(batches["item"], batches["hist"], strict=True):
        named = np.concatenate([item, hist[hist > 0]])
        texts.append(len(named))
        distinct.append(len(np.unique(named)))
    each = np.asarray(texts) / np.asarray(distinct)
    return {
        "texts": float(np.mean(texts)),
        "distinct": float(np.mean(distinct)),
        "copies": float(np.mean(each)),
    }
