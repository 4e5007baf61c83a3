"""Tensors of a torch checkpoint (`pytorch_model.bin`) without torch, and without running its code.

A checkpoint is a pickle, and a pickle can call anything. Here the unpickler knows the few names a
state dict is made of and refuses every other, as torch's `weights_only=True` does. Both layouts
are read: the zip archive (torch >= 1.6) and the older sequence of pickles.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@dataclass(frozen=True)
class _StorageType:
    """Stands for a class like torch.FloatStorage inside the pickle."""

    dtype: np.dtype[Any]


@dataclass
class _Storage:
    """Stands for a storage; its values may arrive after the tensors that view it (old layout)."""

    dtype: np.dtype[Any]
    size: int
    values: HostArray | None = None


@dataclass
class _Tensor:
    """A strided view of a storage, read once the storage is there."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> HostArray:
        storage = self.storage
        reach = self.offset + sum(
            (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)
        )
        numbers = (self.offset, *self.shape, *self.strides)
        if (
            storage.values is None
            or min(numbers) < 0
            or (0 not in self.shape and reach >= storage.size)
        ):
            raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        if 0 in self.shape:
            return np.zeros(self.shape, storage.dtype)
        step = storage.dtype.itemsize
        return np.lib.stride_tricks.as_strided(
            storage.values[self.offset :], self.shape, [s * step for s in self.strides],
            writeable=False,
        )  # fmt: skip


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(np.dtype(kind)) for name, kind in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows `_ALLOWED` and nothing else; storages come from `persistent_load`."""

    def __init__(self, stream: BinaryIO, load_storage: Any = None):
        super().__init__(stream, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is no part of a state dict of tensors"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        tag, kind, key, _, size, *view = pid
        if tag != "storage" or not isinstance(kind, _StorageType) or any(view):
            raise pickle.UnpicklingError(f"a storage of an unknown kind: {tag!r}, {kind!r}")
        if self._load_storage is None:
            raise pickle.UnpicklingError("a storage where none can be")
        return self._load_storage(kind.dtype, str(key), int(size))


def read_torch_file(path: Path) -> dict[str, HostArray]:
    """Name -> array (own dtype; read-only views) of every tensor of a state dict.

    Raises:
      UserError: naming the file: damaged, truncated, no state dict, or code in the pickle.
    """
    try:
        state = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
            raise pickle.UnpicklingError("it holds no dict of named tensors")
        return {name: t.read() for name, t in state.items() if isinstance(t, _Tensor)}
    except UserError:
        raise
    # An unpickler of damaged bytes may raise nearly anything.
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read as a torch checkpoint ({error}). It may be damaged or "
            "truncated: fetch it again, or use the model's safetensors file"
        ) from error


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        found = [n for n in archive.namelist() if n.endswith("/data.pkl") or n == "data.pkl"]
        if len(found) != 1:
            raise pickle.UnpicklingError(f"{len(found)} data.pkl in the archive")
        root = found[0][: -len("data.pkl")]
        if (
            root + "byteorder" in archive.namelist()
            and archive.read(root + "byteorder") != b"little"
        ):
            raise pickle.UnpicklingError("it is big-endian")
        storages: dict[str, _Storage] = {}

        def load(dtype: np.dtype[Any], key: str, size: int) -> _Storage:
            if key not in storages:
                values = np.frombuffer(archive.read(f"{root}data/{key}"), dtype)
                if values.size < size:
                    raise pickle.UnpicklingError(f"storage {key} is too short")
                storages[key] = _Storage(dtype, size, values[:size])
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(found[0])), load).load()


def _read_legacy(path: Path) -> Any:
    storages: dict[str, _Storage] = {}

    def load(dtype: np.dtype[Any], key: str, size: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, size))

    with path.open("rb") as stream:
        if _Unpickler(stream).load() != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("it does not begin like one")
        if _Unpickler(stream).load() != _LEGACY_PROTOCOL:
            raise pickle.UnpicklingError("its protocol is not 1001")
        if not _Unpickler(stream).load().get("little_endian", True):
            raise pickle.UnpicklingError("it is big-endian")
        state = _Unpickler(stream, load).load()
        for key in _Unpickler(stream).load():
            storage = storages[key]
            (size,) = struct.unpack("<q", stream.read(8))
            data = stream.read(size * storage.dtype.itemsize)
            if size < storage.size or len(data) < size * storage.dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} is too short")
            storage.values = np.frombuffer(data, storage.dtype)[: storage.size]
    return state
