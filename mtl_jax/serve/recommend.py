"""Recommendations for one user: candidates by retrieval, ranked by all tasks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.nn.scores import SCORES
from mtl_jax.serve.config import RankConfig
from mtl_jax.serve.request import Known, Request, resolve, rows_for
from mtl_jax.train.evaluation import Evaluator


@dataclass(frozen=True)
class Recommender:
    """A trained model over its prepared data."""

    evaluator: Evaluator
    params: Any
    tables: Any
    rank: RankConfig

    def recommend(self, request: Request, k: int) -> list[dict[str, Any]]:
        """The k best items, best first: {"item_id", "score", "item", "predictions", "gate"}.

        predictions: what each task says of the item; gate: weights of the fused scores. Fewer than
        k come back when the catalogue has no more that may be shown.
        """
        if k < 1:
            raise UserError(f"--k={k}: at least 1 is needed")
        weights = self._weights()
        data = self.evaluator.assembler.data
        known = resolve(data, request)
        allowed = np.ones(data.schema.n_items, bool)
        allowed[0] = False
        if self.rank.exclude_consumed:
            allowed[known.consumed] = False
        items = self._candidates(known, np.flatnonzero(allowed))
        if not len(items):
            return []
        out = self._run(known, items)
        tasks = {t.name: t for t in self.evaluator.model.tasks}
        predictions = {
            name: self._retrieval(out, tasks[name], items) if tasks[name].kind == "retrieval"
            else one_number(tasks[name], out["tasks"][name])
            for name in weights
        }  # fmt: skip
        score = sum(w * placed(tasks[n], predictions[n]) for n, w in weights.items())
        names = data.vocabulary("items").values
        used = [s for s in SCORES if data.schema.category or s != "interest"]
        used = used if out["gate"].shape[-1] == len(used) else [s for s in used if s[:4] != "cont"]
        best = np.argsort(-np.asarray(score), kind="stable")[:k]
        return [
            {
                "item_id": names[items[i]],
                "score": float(np.asarray(score)[i]),
                "item": int(items[i]),
                "predictions": {n: float(p[i]) for n, p in predictions.items()},
                "gate": {s: float(g) for s, g in zip(used, out["gate"][i], strict=True)},
            }
            for i in best
        ]

    def _weights(self) -> dict[str, float]:
        ranking = [
            t.name
            for t in self.evaluator.model.tasks
            if t.level == "event" and t.kind in ("binary", "ordinal", "regression", "retrieval")
        ]
        if not ranking:
            raise UserError("no task of this model ranks items: its tasks are of other kinds")
        if not self.rank.weights:
            return dict.fromkeys(ranking, 1.0)
        for name, _ in self.rank.weights:
            if name not in ranking:
                raise UserError(f"rank.weights: no task {name!r} ranks. {nearest(name, ranking)}")
        return dict(self.rank.weights)

    def _candidates(self, known: Known, allowed: HostArray) -> HostArray:
        """The best `rank.candidates` by the first retrieval task, or all."""
        retrieval = [t for t in self.evaluator.model.tasks if t.kind == "retrieval"]
        if not retrieval or not 0 < self.rank.candidates < len(allowed):
            return allowed
        task = retrieval[0].name
        keys, bias = self.evaluator.item_vectors(self.params, self.tables, task)
        query = self._run(known, allowed[:1])["tasks"][task]["query"][0]
        scores = keys[allowed] @ query + bias[allowed]
        return allowed[np.sort(np.argsort(-scores, kind="stable")[: self.rank.candidates])]

    def _run(self, known: Known, items: HostArray) -> Any:
        assembler = self.evaluator.assembler
        rows = rows_for(assembler.data, known, items, assembler.config.history)
        return self.evaluator.run(self.params, self.tables, rows)

    def _retrieval(self, out: Any, task: TaskSpec, items: HostArray) -> HostArray:
        """Softmax share of each candidate among the candidates."""
        keys, bias = self.evaluator.item_vectors(self.params, self.tables, task.name)
        logits = keys[items] @ out["tasks"][task.name]["query"][0] + bias[items]
        e = np.exp(logits - logits.max())
        share: HostArray = e / e.sum()
        return share


def one_number(task: TaskSpec, prediction: HostArray) -> HostArray:
    """The expected level [n] of "ordinal" probabilities [n, C]; other predictions as they are."""
    if task.kind != "ordinal":
        return prediction
    expected: HostArray = (task.low or 0.0) + prediction @ np.arange(task.size)
    return expected


def placed(task: TaskSpec, prediction: HostArray) -> HostArray:
    """A prediction on a scale from 0 to 1 where the task has a range."""
    if task.low is not None and task.high is not None:
        return (prediction - task.low) / (task.high - task.low)
    return prediction
