"""What scripts share that train several models and compare them on the same rows."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import TrainStream
from mtl_jax.job import Job, open_job
from mtl_jax.metrics.base import MEAN, Metric
from mtl_jax.metrics.ranking import ndcg_at
from mtl_jax.metrics.registry import METRICS
from mtl_jax.train.evaluation import next_item_ranks
from mtl_jax.train.loop import train
from mtl_jax.train.preemption import Preemption
from mtl_jax.train.state import TrainState

# The metric that stands for a task, by its kind.
MAIN = {
    "binary": "auc",
    "multilabel": "auc_macro",
    "multiclass": "accuracy",
    "ordinal": "mae",
    "regression": "rmse",
    "similarity": "spearman",
    "retrieval": "ndcg@10",
}


@dataclass(frozen=True)
class SameRows(Job):
    """A job whose batch k holds the rows of another job's batch k, labelled for its tasks or not.

    rows: indices of the other's training events.
    """

    rows: HostArray

    @cached_property
    def stream(self) -> TrainStream:
        """The job's stream over `rows`."""
        return dataclasses.replace(super().stream, index=self.rows)


def main_tasks(config: Config) -> tuple[TaskSpec, ...]:
    """The tasks on events; auxiliary ones (item level, interest) are left out."""
    return tuple(t for t in config.tasks if t.level == "event" and t.label != "interest")


def plain(config: Config, workdir: Path) -> Config:
    """`config` with shared prepared data, no early stopping, no look at later rows in training."""
    data = dataclasses.replace(
        config.data, prepared=config.data.prepared or str(workdir / "prepared")
    )
    blind = dataclasses.replace(config.train, eval_part="", monitor="", patience=0)
    return dataclasses.replace(config, data=data, train=blind)


def fit(
    config: Config,
    workdir: Path,
    rows: HostArray | None = None,
    preemption: Preemption | None = None,
    quiet: bool = False,
) -> tuple[Job, TrainState]:
    """A trained job and its state; goes on where an interrupted run stopped.

    rows: training events in place of the job's own, see `SameRows`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    job = open_job(config, workdir)
    if rows is not None:
        own = {f.name: getattr(job, f.name) for f in dataclasses.fields(Job)}
        job = SameRows(**own, rows=rows)
    if preemption is not None:
        state, _, _ = train(job.run(), None, preemption, quiet)
        return job, state
    with Preemption() as own_preemption:
        state, _, _ = train(job.run(), None, own_preemption, quiet or not sys.stderr.isatty())
    return job, state


def metric_of(task: TaskSpec) -> Metric:
    """The task's main metric; of retrieval the mean, for NDCG@10 is a value of each row."""
    return MEAN if task.kind == "retrieval" else METRICS[task.kind][MAIN[task.kind]]


def labels_of(task: TaskSpec, labels: HostArray) -> HostArray:
    """Labels as the metrics take them."""
    if task.kind in ("multiclass", "ordinal"):
        return labels.astype(np.int64)
    y: HostArray = labels.astype(np.float64)
    return np.where(y < 0, np.nan, y) if task.kind == "multilabel" else y


def values_of(
    job: Job,
    state: TrainState,
    tasks: Sequence[TaskSpec],
    index: HostArray,
    masks: Mapping[str, HostArray],
) -> dict[str, HostArray]:
    """What the tasks' metrics read on their labelled rows among events `index`, float64.

    A prediction, or NDCG@10 of the row.
    """
    evaluator = job.evaluator()
    predicted = evaluator.predict(state.params, state.tables, index)
    found = {}
    for task in tasks:
        keep = masks[task.name] > 0
        values = predicted[task.name][keep]
        if task.kind == "retrieval":
            ranks = next_item_ranks(
                evaluator, state.params, state.tables, task.name, index[keep], values
            )
            values = ndcg_at(ranks, 10)
        found[task.name] = values.astype(np.float64)
    return found
