"""The tensors of a HF model folder: safetensors or torch `.bin`, whole or in shards."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from absl import logging

from mtl_jax.adapt.torch_file import read_torch_file
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray

_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# In the order in which they are looked for.
_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_LFS_POINTER = b"version https://git-lfs"


def read_tensors(folder: Path) -> tuple[dict[str, HostArray], str]:
    """All tensors of the folder's checkpoint in their own dtype, and the file they came from.

    safetensors are taken before `.bin`, a whole file before an index of shards.

    Raises:
      UserError: no such file, a shard or one of its tensors missing, or a file damaged.
    """
    name = next((n for n in _FILES if (folder / n).is_file()), None)
    if name is None:
        held = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise UserError(f"{folder} holds none of {', '.join(_FILES)} (it holds {held})")
    path = folder / name
    tensors = _read_shards(path) if name.endswith(".index.json") else _read_file(path)
    logging.info("read %d tensors from %s", len(tensors), path)
    return tensors, str(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; UserError naming the file when it is missing, damaged or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: is {path.parent} a HF model folder?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def read_safetensors(path: Path) -> dict[str, HostArray]:
    """Name -> read-only array over the memory-mapped file.

    Layout: header length (8 bytes, little-endian), JSON header, data; see the safetensors format.

    Raises:
      UserError: naming the file, when it is truncated or its header does not describe its bytes.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if 8 + length > size:
                raise ValueError(f"its header of {length} bytes does not fit in {size}")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        last = max((e["data_offsets"][1] for e in header.values()), default=0)
        if 8 + length + last != size:
            raise ValueError(f"its header describes {8 + length + last} bytes and it has {size}")
        data = np.memmap(path, np.uint8, "r", 8 + length) if last else np.zeros(0, np.uint8)
        return {name: _view(data, name, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(
            f"{path}: damaged or truncated safetensors file ({error}): fetch it again"
        ) from error


def _view(data: HostArray, name: str, entry: dict[str, Any]) -> HostArray:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name} has dtype {entry['dtype']}, which is not read here")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    count = int(np.prod(shape, dtype=np.int64))
    if (
        begin < 0
        or end > data.size
        or end - begin != count * dtype.itemsize
        or min(shape, default=0) < 0
    ):
        raise ValueError(f"tensor {name} of shape {shape} does not fill bytes {begin} to {end}")
    # frombuffer, not view(): the header's length leaves the data unaligned at will.
    return np.frombuffer(data[begin:end], dtype).reshape(shape)


def _read_file(path: Path) -> dict[str, HostArray]:
    with path.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UserError(f"{path} is a git-lfs pointer, not the weights: run `git lfs pull`")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def _read_shards(index: Path) -> dict[str, HostArray]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(v, str) and Path(v).name == v for v in weight_map.values()
    ):
        raise UserError(f"{index}: weight_map must name a file beside it for each tensor")
    tensors: dict[str, HostArray] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise UserError(f"{index} names the shard {shard}, which is missing")
        held = _read_file(path)
        listed = [name for name, file in weight_map.items() if file == shard]
        missing = [name for name in listed if name not in held]
        if missing:
            raise UserError(f"{path} lacks {missing[0]}, which {index.name} promises there")
        tensors.update(held)
    return tensors
