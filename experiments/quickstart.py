"""The main job on the embedded default, from nothing to recommendations.

    python -m experiments.quickstart [--set=data.world.events=200000] [--workdir=runs/quickstart]

Generates a shop's catalogue and logs, trains on frozen MiniLM vectors, evaluates on later days
against floor and ceiling (the shop's truth is known), and recommends.
"""

import os
from typing import Any

import numpy as np
from absl import flags, logging
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.train import save_config, train_job, write_metrics
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.world import generate
from mtl_jax.data.world_truth import LEVELS, References, references
from mtl_jax.job import Job, open_job
from mtl_jax.metrics.base import MEAN
from mtl_jax.metrics.bootstrap import share_of_gap
from mtl_jax.metrics.ranking import ndcg_at
from mtl_jax.metrics.ranks import Ranks, as_ranks
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.report import Slices
from mtl_jax.metrics.table import entry_cells, metrics_table, number
from mtl_jax.restore import open_trained
from mtl_jax.serve.recommend import Recommender
from mtl_jax.serve.request import Request
from mtl_jax.train.evaluation import evaluate, next_item_ranks, slices_of
from mtl_jax.train.preemption import Preempted, Preemption

SPLIT = flags.DEFINE_enum("split", "test", ["valid", "test"], "Which later days to look at.")
MAIN = {"binary": "auc", "regression": "rmse", "retrieval": "ndcg@10"}
NDCG_AT = 10


def truth_of(job: Job, index: HostArray) -> tuple[References, HostArray]:
    """The world's references for prepared events `index`, and where each lies in them."""
    if job.config.data.source != "world":
        raise UserError("quickstart needs data.source=world: only there is the truth known")
    w = job.config.data.world
    world = generate(w.events, w.seed, w.conflict)
    rows = np.asarray(job.data.events["row"][index])
    order = np.sort(rows)
    return references(world, order), np.searchsorted(order, rows)


def compare(
    job: Job,
    state: Any,
    predictions: Any,
    index: HostArray,
    n: int = 300,
    title: str = "later days",
) -> Table:
    """Per task: floor, model, ceiling, Bayes, and the share of the way with its interval."""
    found, place = truth_of(job, index)
    users = np.asarray(job.data.events["user"][index])
    truth = job.assembler.event_rows(index)
    masks = {"all": np.ones(len(index), bool), **slices_of(job.assembler, index)}
    table = Table(title=f"{title}: each task between its floor and its ceiling")
    for head in ("task", "slice", "metric", "rows", "floor", "model", "ceiling", "bayes"):
        table.add_column(head, justify="left" if head in ("task", "slice", "metric") else "right")
    table.add_column("share of the way", justify="right")
    table.add_column("95 % interval", justify="right")
    for task in job.config.tasks:
        if task.kind not in MAIN:
            continue
        labelled = truth.masks[task.name] > 0
        for name, mask in masks.items():
            keep = np.flatnonzero(labelled & mask)
            if not len(keep):
                continue
            if task.kind == "retrieval":
                ranks = next_item_ranks(
                    job.evaluator(), state.params, state.tables, task.name, index[keep],
                    predictions[task.name][keep],
                )  # fmt: skip
                row = _retrieval(found, place[keep], ranks, users[keep], n)
            else:
                y = truth.labels[task.name][keep].astype(np.float64)
                levels = {k: v[place[keep]] for k, v in found.labels[task.label].items()}
                model = predictions[task.name][keep].astype(np.float64)
                row = _labels(task.kind, y, model, levels, users[keep], n)
            table.add_row(task.name, name, MAIN[task.kind], f"{len(keep):,}", *row)
        table.add_section()
    return table


def _labels(
    kind: str, y: HostArray, model: HostArray, levels: Any, users: HostArray, n: int
) -> list[str]:
    metric = METRICS[kind][MAIN[kind]]
    try:
        values = [
            metric(y, p) for p in (levels["floor"], model, levels["ceiling"], levels["bayes"])
        ]
    except ValueError as error:
        return ["-", str(error)]
    share = share_of_gap(metric, y, levels["floor"], levels["ceiling"], model, users, n)
    return [*(number(v) for v in values), *entry_cells(share)[:2]]


def _retrieval(
    found: References, place: HostArray, ranks: Ranks, users: HostArray, n: int
) -> list[str]:
    gains = {k: ndcg_at(as_ranks(found.next_item_ranks(k, place)), NDCG_AT) for k in LEVELS}
    own = ndcg_at(ranks, NDCG_AT)
    share = share_of_gap(MEAN, own, gains["floor"], gains["ceiling"], own, users, n)
    values = [gains["floor"], own, gains["ceiling"], gains["bayes"]]
    return [*(number(float(v.mean())) for v in values), *entry_cells(share)[:2]]


def show_recommendations(job: Job, state: Any, k: int = 10) -> tuple[str, Table]:
    """Ten recommendations with text and scores for the user with the most events."""
    users, counts = np.unique(job.data.events["user"], return_counts=True)
    user = job.data.vocabulary("users").values[users[np.argmax(counts)]]
    recommender = Recommender(job.evaluator(), state.params, state.tables, job.config.rank)
    table = Table(title=f"recommended to user {user}")
    for head in ("item", "score", "text"):
        table.add_column(head)
    for item in recommender.recommend(Request(user), k):
        table.add_row(item["item_id"], f"{item['score']:.4f}", job.data.texts[item["item"]])
    return user, table


def main() -> int:
    """Prepare, train, evaluate on later days, recommend."""
    config, workdir = load_config()
    console = Console(width=140)
    with Preemption() as preemption:
        try:
            job = preemption.wait_for(lambda: open_job(config, workdir))
            train_job(job, preemption)
        except Preempted:
            logging.info("stopped by a signal; start again to go on")
            logging.flush()
            os._exit(0)  # a thread may still be compiling
    save_config(config, workdir)
    state = open_trained(workdir).state
    results, predictions, index = evaluate(
        job.evaluator(), state.params, state.tables, SPLIT.value, replicates=300
    )
    found: dict[str, dict[str, Slices]] = {SPLIT.value: results}
    write_metrics(workdir, job.data, found)
    shown = ("auc", "log_loss", "mae", "rmse", "recall@10", "ndcg@10")
    title = f"{SPLIT.value}, later days"
    console.print(metrics_table(found, title, metrics=shown))
    console.print(compare(job, state, predictions, index, title=title))
    user, table = show_recommendations(job, state)
    console.print(table)
    for what, where in {
        "prepared data, cleaning report": job.data.folder,
        "checkpoints": workdir / "checkpoints",
        "metrics": workdir / "metrics.json",
        "curves": f"tensorboard --logdir {workdir / 'tensorboard'}",
        "recommend": f"python -m experiments.recommend --workdir={workdir} --user={user}",
    }.items():
        print(f"{what:32} {where}")
    return 0


if __name__ == "__main__":
    run(main)
