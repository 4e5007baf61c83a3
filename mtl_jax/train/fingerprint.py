"""What a run is made of, kept in every checkpoint: a position means nothing in another stream."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import TrainStream

# Where a run is placed, which may change: how many devices, and what `shards=0` stands for.
PLACEMENT = (("train", "mesh"), ("batch", "shards"))


def fingerprint(stream: TrainStream) -> dict[str, Any]:
    """All that batch k depends on besides k, and the ids of batch 0 as a sample of the code."""
    config, index = stream.assembler.config, stream.index
    batch = stream.batch(0)
    ids = [batch[k] for k in sorted(batch) if np.issubdtype(batch[k].dtype, np.integer)]
    return {
        "data": stream.assembler.data.digest,
        "seed": stream.seed,
        "batch": dataclasses.asdict(config) | {"shards": stream.shards},
        "rows": [len(index), _digest([index])],
        "steps_per_epoch": stream.steps_per_epoch,
        "first_batch": _digest(ids),
    }


def with_recorded_shards(stream: TrainStream, old: dict[str, Any], devices: int) -> TrainStream:
    """`stream` in the data shards of a checkpoint's meta, so that other devices read the same.

    Raises UserError where these shards cannot be spread over `devices`.
    """
    shards = old["pipeline"]["batch"]["shards"]
    if shards % devices:
        raise UserError(
            f"this run was started with {shards} data shards, which cannot be spread over "
            f"{devices} devices: choose how many to use, e.g. --set=train.mesh={shards}"
        )
    return dataclasses.replace(stream, shards=shards)


def check_same(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """UserError naming the first thing in which a checkpoint's meta differs from this run's."""
    for key in ("config", "data", "pipeline"):
        was, now = old.get(key), new.get(key)
        if key == "config":
            was, now = _unplaced(was), _unplaced(now)
        if was != now:
            raise UserError(
                f"--workdir={workdir} holds a run with another {key}"
                f"{_difference(was, now)}: use another --workdir or remove it"
            )


def _difference(old: Any, new: Any, path: str = "") -> str:
    """ " (train.seed was 0, is 1)" for the first difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:  # causes stand before what follows from them
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    return f" ({path or 'it'} was {old}, is {new})"


def _unplaced(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    found = {k: dict(v) if isinstance(v, dict) else v for k, v in config.items()}
    for group, name in PLACEMENT:
        if isinstance(found.get(group), dict):
            found[group].pop(name, None)
    return found


def _digest(arrays: list[HostArray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
