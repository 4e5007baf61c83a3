"""One model for all tasks against its single-task twins and the count floor, on later rows.

    python -m experiments.twins --config=experiments/configs/ml100k.py \
        --set=data.folder=path/to/ml-100k --workdir=runs/ml100k-twins

A twin is the same model, data, order of rows and number of steps with one task. The count floor is
the sum of the frozen user and item statistics (smoothed log-odds, shrunk means), or popularity for
a retrieval task. Differences are paired bootstraps over users.
"""

import dataclasses

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.fitting import MAIN, fit, labels_of, main_tasks, metric_of, plain, values_of
from experiments.train import write_metrics
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import rows_of
from mtl_jax.data.prepared import Prepared
from mtl_jax.metrics.bootstrap import Entry, estimate, paired_difference
from mtl_jax.metrics.ranking import ndcg_at
from mtl_jax.metrics.ranks import Ranks
from mtl_jax.metrics.table import entry_cells

SPLIT = flags.DEFINE_enum("split", "test", ["valid", "test"], "Which later rows to look at.")
FLOORS = ("binary", "regression", "retrieval")  # the kinds of task that have a count floor


def floor_of(data: Prepared, task: TaskSpec, index: HostArray) -> HostArray:
    """The count floor's values for events `index` of a later part."""
    if task.kind == "retrieval":
        positives = np.asarray(data.items["positives"], np.float64)
        positives[0] = -1.0
        own = positives[np.asarray(data.events["item"][index])][:, None]
        above, equal = (positives[None] > own).sum(1), (positives[None] == own).sum(1)
        ranks = above + (equal + 1) / 2
        return ndcg_at(Ranks(np.arange(len(index) + 1), ranks), 10)
    kind = "rate" if task.kind == "binary" else "mean"
    names = [c.name for c in data.schema.statistics]
    columns = [names.index(f"{key}.{task.label}.{kind}") for key in ("user", "item")]
    total = np.asarray(data.events["stats"][index], np.float64)[:, columns].sum(1)
    prior = data.statistics.priors()[task.label]
    if task.kind == "regression":
        return np.clip(prior + total, task.low, task.high)
    return 1.0 / (1.0 + np.exp(-total - np.log(prior / (1 - prior))))


def compare(
    task: TaskSpec, y: HostArray, users: HostArray, values: dict[str, HostArray]
) -> dict[str, Entry]:
    """model, twin and floor with intervals, and the model's paired gains over both."""
    metric = metric_of(task)
    found = {name: estimate(metric, y, v, users) for name, v in values.items()}
    for other in ("twin", "floor"):
        gain = paired_difference(metric, y, values["model"], values[other], users)
        found[f"model - {other}"] = gain
    return found


def main() -> None:
    """Train the model and its twins, compare, write twins into metrics.json."""
    config, workdir = load_config()
    # Equal steps, no early stopping: twins and model differ in their tasks alone.
    config = plain(config, workdir)
    tasks = tuple(t for t in main_tasks(config) if t.kind in FLOORS)
    job, state = fit(config, workdir / "all")
    index = rows_of(job.assembler, SPLIT.value)
    truth = job.assembler.event_rows(index)
    found = values_of(job, state, tasks, index, truth.masks)
    results: dict[str, dict[str, Entry]] = {}
    for task in tasks:
        labelled = truth.masks[task.name] > 0
        keep = index[labelled]
        y = labels_of(task, truth.labels[task.name][labelled])
        users = np.asarray(job.data.events["user"][keep])
        alone = dataclasses.replace(config, tasks=(task,))
        twin, twin_state = fit(alone, workdir / f"only_{task.name}")
        values = {
            "model": found[task.name],
            "twin": values_of(twin, twin_state, (task,), index, truth.masks)[task.name],
            "floor": floor_of(job.data, task, keep),
        }
        results[task.name] = compare(task, y, users, values)
    table = Table(title=f"{SPLIT.value}: one model against single-task twins and the count floor")
    for head in ("task", "metric", "which", "value", "95 % interval", "rows"):
        table.add_column(head, justify="right" if head in ("value", "rows") else "left")
    for task in tasks:
        for name, entry in results[task.name].items():
            table.add_row(task.name, MAIN[task.kind], name, *entry_cells(entry))
        table.add_section()
    Console(width=120).print(table)
    write_metrics(workdir, job.data, {"twins": {SPLIT.value: results}})


if __name__ == "__main__":
    run(main)
