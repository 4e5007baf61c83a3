"""The evaluation loop: predictions of a part, and metrics from them on the host in float64."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mtl_jax.core.placement import on_mesh
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Batch, HostArray
from mtl_jax.data.assemble import Assembler
from mtl_jax.data.batch import Rows
from mtl_jax.data.pipeline import rows_of
from mtl_jax.data.plan import largest, roomy
from mtl_jax.metrics.ranks import blocked_ranks
from mtl_jax.metrics.report import KS, Slices, evaluate_ranking, evaluate_task
from mtl_jax.nn.model import Model
from mtl_jax.train.fetch import fetch
from mtl_jax.train.mesh import batch_devices, for_use, put_batch, replicated

Predictions = dict[str, HostArray]


@dataclass(frozen=True)
class Evaluator:
    """Runs the compiled forward pass over parts of the data.

    size: rows of an evaluation batch, a multiple of the mesh's data x fsdp.
    check: called between batches; raises to leave early (a signal to stop).
    """

    model: Model
    assembler: Assembler
    mesh: Mesh
    size: int = 1024
    check: Callable[[], None] = lambda: None
    _compiled: dict[str, Any] = field(default_factory=dict)

    def outputs(self, params: Any, tables: Any, batch: dict[str, HostArray]) -> Any:
        """Host outputs of one batch: predictions [S, B] and the representation's readable parts."""
        if "predict" not in self._compiled:
            out = replicated(self.mesh)
            self._compiled["predict"] = jax.jit(
                on_mesh(self.mesh, self._forward), out_shardings=out
            )
        return fetch(self._compiled["predict"](params, tables, put_batch(self.mesh, batch)))

    def run(self, params: Any, tables: Any, rows: Rows) -> Any:
        """Outputs of n rows in order, as {"tasks", "scores", "gate"} of arrays [n, ...].

        binary: probability; regression: value in its range; multiclass, ordinal, multilabel:
        probabilities [n, C]; similarity: probability, or value in its range; retrieval: query
        [n, D].  Item-level tasks are left out.
        """
        n, parts = len(rows.user), (1, batch_devices(self.mesh))
        none: list[HostArray] = [np.zeros(0, np.int32)] * parts[1]
        blocks = [np.arange(s, s + self.size) for s in range(0, n, self.size)]
        cut = [rows.take(np.where(block < n, block, 0)) for block in blocks]
        shape = roomy(largest(self.assembler.shape_of(r, none, parts) for r in cut), parts[1])
        found = []
        for block in cut:
            self.check()
            batch = self.assembler.batch(block, none, shape, parts, train=False)
            out = self.outputs(params, tables, batch)
            out["tasks"] = {
                t.name: {"query": out["tasks"][t.name]["query"]}
                if t.kind == "retrieval"
                else out["tasks"][t.name]
                for t in self.model.tasks
                if t.level != "item"
            }
            found.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out))
        return jax.tree.map(lambda *xs: np.concatenate(xs)[:n], *found)

    def predict(self, params: Any, tables: Any, index: HostArray) -> Predictions:
        """Predictions of events `index` [n] in order; see `run`; a retrieval task's are queries."""
        out = self.run(params, tables, self.assembler.event_rows(index, labels=False))["tasks"]
        return {k: v["query"] if isinstance(v, dict) else v for k, v in out.items()}

    def item_vectors(self, params: Any, tables: Any, task: str) -> tuple[HostArray, HostArray]:
        """Retrieval keys [n_items, D] and biases [n_items] of every item; row 0 is not an item."""
        n_items, d = self.assembler.data.schema.n_items, self.model.config.width
        keys, bias = np.zeros((n_items, d), np.float32), np.zeros(n_items, np.float32)
        for start in range(0, n_items, self.size):
            self.check()
            ids = np.arange(start, start + self.size) % n_items
            batch = self._item_batch(ids.astype(np.int32))
            out = self.outputs(params, tables, batch)["tasks"][task]
            at = batch["items/id"][0].ravel()
            keys[at] = out["key"].reshape(-1, d)
            bias[at] = out["bias"].ravel()
        return keys, bias

    def _item_batch(self, ids: HostArray) -> dict[str, HostArray]:
        """Rows that name the items and nothing else, so that the item tables hold them."""
        a, n = self.assembler, len(ids)
        zero: HostArray = np.zeros(n, np.int64)
        stats = np.zeros((n, len(a.data.schema.statistics)), np.float32)
        context = {c.name: np.zeros(n, np.int32) for c in a.data.schema.context}
        rows: Rows = a.rows(zero.astype(np.int32), ids, zero, zero, zero, stats, context)
        parts = (1, batch_devices(self.mesh))
        none: list[HostArray] = [np.zeros(0, np.int32)] * parts[1]
        shape = roomy(a.shape_of(rows, none, parts), parts[1])
        return a.batch(rows, none, shape, parts, train=False)

    def _forward(self, params: Any, tables: Any, batch: Batch) -> Any:
        part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
        rows = self.model.gather(tables, part)
        key = jax.random.PRNGKey(0)  # unused: nothing is dropped in evaluation
        rep, outputs = self.model.forward(for_use(params), rows, part, key, train=False)
        tasks = {t.name: to_prediction(t, outputs[t.name]) for t in self.model.tasks}
        return {"tasks": tasks, "scores": rep["scores"], "gate": rep["gate"]}


def to_prediction(task: TaskSpec, output: Any) -> Any:
    """From a head's output to what is reported: probability, clipped value, or as it is."""
    if task.probability or task.kind == "multilabel":
        return jax.nn.sigmoid(output)
    if task.kind in ("multiclass", "ordinal"):
        return jax.nn.softmax(output, axis=-1)
    if task.kind in ("regression", "similarity"):
        return jax.numpy.clip(output, task.low, task.high)
    return output


def slices_of(assembler: Assembler, index: HostArray) -> dict[str, HostArray]:
    """warm_item, cold_item, warm_user, cold_user of events `index`: masks [n], no empty ones."""
    data = assembler.data
    item = np.asarray(data.items["warm"])[data.events["item"][index]]
    user = np.asarray(data.users["warm"])[data.events["user"][index]]
    masks = {"warm_item": item, "cold_item": ~item, "warm_user": user, "cold_user": ~user}
    return {name: mask for name, mask in masks.items() if mask.any()}


def evaluate(
    evaluator: Evaluator,
    params: Any,
    tables: Any,
    part: str,
    replicates: int,
    rows: int = 0,
    ks: tuple[int, ...] = KS,
) -> tuple[dict[str, Slices], Predictions, HostArray]:
    """({task: {slice: {metric: entry}}}, predictions, event indices) of a part.

    replicates: of the bootstrap over users (over rows, where all are of one user); 0 gives no
    intervals.  rows: evaluate at most this many, evenly spread over time; 0 is all.
    Auxiliary tasks (item level, interest) are left out.
    """
    assembler = evaluator.assembler
    index = rows_of(assembler, part)
    if rows and rows < len(index):
        index = index[np.linspace(0, len(index) - 1, rows).astype(np.int64)]
    predictions = evaluator.predict(params, tables, index)
    users = np.asarray(assembler.data.events["user"][index])
    if len(np.unique(users)) == 1:  # a source without users: rows are drawn
        users = np.arange(len(index))
    masks = slices_of(assembler, index)
    truth = assembler.event_rows(index)
    results: dict[str, Slices] = {}
    for t in evaluator.model.tasks:
        evaluator.check()
        if t.name not in predictions or t.label == "interest":
            continue
        labelled = truth.masks[t.name] > 0
        keep = np.flatnonzero(labelled)
        cut = {k: v[keep] for k, v in masks.items()}
        cut = {k: v for k, v in cut.items() if v.any()}
        y, p = truth.labels[t.name][keep], predictions[t.name][keep]
        if t.kind == "retrieval":
            ranks = next_item_ranks(evaluator, params, tables, t.name, index[keep], p)
            results[t.name] = evaluate_ranking(ranks, users[keep], cut, ks, n=replicates)
        else:
            y = y.astype(np.int64 if t.kind in ("multiclass", "ordinal") else np.float64)
            if t.kind == "multilabel":
                y = np.where(y < 0, np.nan, y)
            results[t.name] = evaluate_task(
                t.kind, y, p.astype(np.float64), users[keep], cut, n=replicates
            )
    return results, predictions, index


def next_item_ranks(
    evaluator: Evaluator, params: Any, tables: Any, task: str, index: HostArray, queries: HostArray
) -> Any:
    """Ranks of the rows' items among all items, scored in blocks of queries."""
    keys, bias = evaluator.item_vectors(params, tables, task)
    targets = np.asarray(evaluator.assembler.data.events["item"][index])
    real = np.arange(len(keys)) > 0
    return blocked_ranks(lambda s: queries[s] @ keys.T + bias, targets, candidates=real)
