"""The mesh and the one rule table that places arrays on it."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import first_match, map_by_path

# pattern on a parameter's path -> spec. Data parallelism keeps every parameter whole.
RULES: tuple[tuple[str, PartitionSpec], ...] = ((".*", PartitionSpec()),)


def make_mesh(data: int = 0) -> Mesh:
    """A mesh with a `data` axis of that many devices of all processes (0 = all)."""
    devices = jax.devices()
    if data > len(devices):
        raise UserError(f"train.mesh={data}: there are {len(devices)} devices")
    count = data or len(devices)
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((count,), ("data",), axis_types=auto, devices=devices[:count])


def state_sharding(mesh: Mesh, abstract_state: Any) -> Any:
    """A sharding for every leaf of the state, by `RULES`."""
    return map_by_path(lambda p, _: NamedSharding(mesh, first_match(RULES, p)), abstract_state)


def batch_sharding(mesh: Mesh, keys: Iterable[str]) -> dict[str, NamedSharding]:
    """Where a batch's arrays lie: [A, S, ...] (S over the mesh), `uniq/<table>` [S, R / S]."""
    by_row = NamedSharding(mesh, PartitionSpec(None, "data"))
    by_shard = NamedSharding(mesh, PartitionSpec("data"))
    return {k: by_shard if k.startswith("uniq/") else by_row for k in keys}


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The batch on the mesh: data shards over the data axis."""
    place = batch_sharding(mesh, batch)
    if replicated(mesh).is_fully_addressable:
        return jax.device_put(batch, place)
    # Every process has the whole batch and gives the shards of its own devices.
    return {
        k: jax.make_array_from_callback(v.shape, place[k], v.__getitem__) for k, v in batch.items()
    }


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device, and so readable by every process."""
    return NamedSharding(mesh, PartitionSpec())
