"""The recommender of the balancing benchmark as the project's step takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.balancing_data import TABLES, WIDTH, HostArray, World, distinct
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch, Params
from mtl_jax.nn.config import ModelConfig


@dataclass(frozen=True)
class Recommender:
    """What `mtl_jax.train.step` needs of a model: gather -> shared -> predict."""

    tasks: tuple[TaskSpec, ...]
    config: ModelConfig = field(default_factory=lambda: ModelConfig(width=WIDTH))

    def gather(self, tables: Params, batch: Batch) -> dict[str, Array]:
        """Distinct rows of each table [R, 64]; padding gives zeros."""
        return {
            name: table.at[batch[f"uniq/{name}"].reshape(-1)].get(mode="fill", fill_value=0)
            for name, table in tables.items()
        }

    def shared(
        self, params: Params, rows: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> dict[str, Array]:
        """z [S, B, 256]."""
        take = partial(jnp.take, axis=0)
        parts = (
            take(rows["user"], batch["user"]),
            take(rows["item"], batch["item"]),
            take(rows["item"], batch["history"]).mean(-2),
        )
        x = jnp.concatenate(parts, -1)
        for layer in params["bottom"].values():
            x = jax.nn.relu(_dense(layer, x))
        return {"z": x}

    def predict(
        self, params: Params, rep: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> dict[str, Array]:
        """A logit [S, B] per task."""
        outputs = {}
        for t in self.tasks:
            head = params["heads"][f"head_{t.name}"]
            outputs[t.name] = _dense(head["1"], jax.nn.relu(_dense(head["0"], rep["z"])))[..., 0]
        return outputs


def _dense(layer: Params, x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"]


def model_of(world: World) -> Recommender:
    """Tasks t0, t1, ... with binary labels."""
    return Recommender(tuple(TaskSpec(f"t{n}", "binary", f"t{n}") for n in range(world.tasks)))


def nest(weights: Mapping[str, HostArray]) -> dict[str, Any]:
    """ "a/b/c" -> {"a": {"b": {"c": ...}}}"""
    tree: dict[str, Any] = {}
    for path, value in weights.items():
        *folders, leaf = path.split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        at[leaf] = value
    return tree


def capacity(batches: list[dict[str, HostArray]]) -> dict[str, int]:
    """Rows R of each table's part of a batch: the most distinct ids, rounded up to 256."""
    most = {k: max(len(distinct(b)[f"uniq/{k}"]) for b in batches) for k in TABLES}
    return {k: -(-n // 256) * 256 for k, n in most.items()}


def to_step(
    batch: dict[str, HostArray], world: World, rows: Mapping[str, int]
) -> dict[str, HostArray]:
    """What the loader gives: distinct ids [1, R] padded beyond the table, the rest [1, 1, ...]."""
    found = distinct(batch)
    out = {k: found[k][None, None] for k in ("user", "item", "history")}
    for name in TABLES:
        ids = np.full((1, rows[name]), world.table_rows, np.int32)
        ids[0, : len(found[f"uniq/{name}"])] = found[f"uniq/{name}"]
        out[f"uniq/{name}"] = ids
    mask = np.ones((1, 1, world.batch), np.float32)
    for n in range(world.tasks):
        out[f"label/t{n}"] = found["label"][n][None, None]
        out[f"mask/t{n}"] = mask
    return out
