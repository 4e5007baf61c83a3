"""From finished runs to numbers: one dict for each line of compare.jsonl.

Kinds, in this order: "comparison" (what was compared), "skipped" (a task without a metric), "run",
"twin" (means of the single-task models), "row" (a task of a combination against a twin), "summary"
(a combination against a twin: Delta-m), "cost" (time and size), "telemetry".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.comparison import telemetry
from experiments.comparison.arms import Arm, plain_balancer
from experiments.comparison.runs import Finished
from experiments.fitting import MAIN, metric_of
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.metrics.base import Undefined, user_index
from mtl_jax.metrics.bootstrap import replicates
from mtl_jax.metrics.negative_transfer import delta_m, relative_change, verdict
from mtl_jax.metrics.registry import higher_is_better
from mtl_jax.metrics.significance import Difference, both, holm, mean_t, over_users, paired_t

Record = dict[str, Any]
TWINS = ("same_width", "same_parameters")


@dataclass(frozen=True)
class Truth:
    """Labels [n] of a task's labelled rows, and whose they are [n]."""

    task: TaskSpec
    labels: HostArray
    users: HostArray


@dataclass(frozen=True)
class Measured:
    """A task's metric for each run: on all rows, and in n resamples of the users."""

    value: Mapping[tuple[str, int], float]
    resampled: Mapping[tuple[str, int], HostArray]
    n_users: int
    rows: int


@dataclass(frozen=True)
class Study:
    """Everything that is compared.

    twins: (which twin, trunk of the combination, task) -> the twin's arm.
    """

    tasks: Sequence[TaskSpec]
    arms: Sequence[Arm]
    twins: Mapping[tuple[str, str, str], Arm]
    seeds: Sequence[int]
    finished: Sequence[Finished]
    batch: int

    @property
    def together(self) -> list[Arm]:
        """The combinations."""
        return [arm for arm in self.arms if arm.kind == "together"]

    def runs(self, arm: Arm) -> list[Finished]:
        """An arm's runs, by seed."""
        return [run for run in self.finished if run.arm.name == arm.name]


def measure(truth: Truth, runs: Sequence[Finished], n: int) -> Measured:
    """The metric of every run that predicts the task, all on the same draws of users.

    Where all rows are of one user, the source has none: rows are drawn. Raises Undefined.
    """
    users = truth.users
    if len(np.unique(users)) == 1:
        users = np.arange(len(users))
    index, n_users = user_index(users)
    metric = metric_of(truth.task)
    values, prepared = {}, {}
    for run in runs:
        predicted = run.values.get(truth.task.name)
        if predicted is not None:
            at = (run.arm.name, run.seed)
            values[at] = metric(truth.labels, predicted, users=index)
            prepared[at] = metric.prepare(truth.labels, predicted, index, n_users)
    names = {f"{name}\n{seed}": (name, seed) for name, seed in prepared}
    drawn = replicates({k: prepared[v] for k, v in names.items()}, n_users, n, 0)
    return Measured(values, {names[k]: v for k, v in drawn.items()}, n_users, len(index))


def records(study: Study, truths: Sequence[Truth], n: int) -> list[Record]:
    """All lines but the first; n: replicates of the bootstrap."""
    measured: dict[str, Measured] = {}
    skipped: list[Record] = []
    for truth in truths:
        try:
            measured[truth.task.name] = measure(truth, study.finished, n)
        except Undefined as error:
            skipped.append({"kind": "skipped", "task": truth.task.name, "why": str(error)})
    rows = [row for which in TWINS for row in corrected(list(_rows(study, measured, which)))]
    return [
        *skipped,
        *_runs(study, measured),
        *_twins(study, measured),
        *rows,
        *_summaries(study, measured, rows),
        *_costs(study),
        *_telemetry(study),
    ]


def _runs(study: Study, measured: Mapping[str, Measured]) -> Iterator[Record]:
    for run in study.finished:
        at = (run.arm.name, run.seed)
        yield {
            "kind": "run",
            "run": run.arm.name,
            "seed": run.seed,
            "which": run.arm.kind,
            "folder": str(run.folder),
            "values": {t: m.value[at] for t, m in measured.items() if at in m.value},
            "parameters": run.parameters,
            "heads": run.heads,
            "tables": run.tables,
            "seconds_per_step": telemetry.seconds_per_step(run.lines, study.batch),
        }


def _mean(measured: Measured, arm: Arm, seeds: Sequence[int]) -> Difference:
    return mean_t(np.array([measured.value[arm.name, seed] for seed in seeds]))


def _twins(study: Study, measured: Mapping[str, Measured]) -> Iterator[Record]:
    for arm in study.arms:
        if arm.kind == "together" or arm.task not in measured:
            continue
        task = _task(study, arm.task)
        found = _mean(measured[arm.task], arm, study.seeds)
        trunks = [k[1] for k, twin in study.twins.items() if twin.name == arm.name]
        run = study.runs(arm)[0]
        yield {
            "kind": "twin",
            "twin": arm.kind,
            "for_trunks": trunks,
            "task": arm.task,
            "metric": MAIN[task.kind],
            "value": found["value"],
            "value_low": found["low"],
            "value_high": found["high"],
            "trunk_widths": list(arm.config.model.trunk_widths),
            "parameters": run.parameters,
            "heads": run.heads,
        }


def _rows(study: Study, measured: Mapping[str, Measured], which: str) -> Iterator[Record]:
    """A task of a combination against its twin, before correction."""
    for arm in study.together:
        for task in study.tasks:
            twin = study.twins.get((which, arm.trunk, task.name))
            if twin is None or task.name not in measured:
                continue
            m = measured[task.name]
            higher = higher_is_better(MAIN[task.kind])
            ours, theirs = ([m.value[a.name, s] for s in study.seeds] for a in (arm, twin))
            seeds = paired_t(np.array(ours), np.array(theirs))
            drawn, base_drawn = (
                np.stack([m.resampled[a.name, s] for s in study.seeds]) for a in (arm, twin)
            )
            users = over_users(seeds["value"], drawn, base_drawn, m.n_users)
            value = mean_t(np.array(ours))
            base = float(np.mean(theirs))
            yield {
                "kind": "row",
                "twin": which,
                "trunk": arm.trunk,
                "balance": arm.balance,
                "task": task.name,
                "metric": MAIN[task.kind],
                "higher_is_better": higher,
                "value": value["value"],
                "value_low": value["low"],
                "value_high": value["high"],
                "twin_value": base,
                "difference": seeds["value"],
                "seeds_low": seeds["low"],
                "seeds_high": seeds["high"],
                "seeds_p": seeds["p"],
                "seeds_why": seeds["why"],
                "users_low": users["low"],
                "users_high": users["high"],
                "users_p": users["p"],
                "users_why": users["why"],
                "p": both(seeds["p"], users["p"]),
                "relative_change": relative_change(value["value"], base, higher),
                "rows": m.rows,
                "users": m.n_users,
            }


def corrected(rows: list[Record]) -> list[Record]:
    """Rows with Holm's p over all of them, and what it says."""
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
        row["verdict"] = verdict(row["difference"], p, row["higher_is_better"])
    return rows


def _summaries(
    study: Study, measured: Mapping[str, Measured], rows: Sequence[Record]
) -> Iterator[Record]:
    """Delta-m of each seed against the twins of the same seed, and its mean and interval."""
    for which in TWINS:
        for arm in study.together:
            mine = [r for r in rows if (r["twin"], *_key(r)) == (which, arm.trunk, arm.balance)]
            if not mine:
                continue
            higher = [row["higher_is_better"] for row in mine]
            each = []
            for seed in study.seeds:
                ours, theirs = [], []
                for row in mine:
                    value = measured[row["task"]].value
                    ours.append(value[arm.name, seed])
                    theirs.append(value[study.twins[which, arm.trunk, row["task"]].name, seed])
                each.append(delta_m(ours, theirs, higher))
            known = [change for change in each if change is not None]
            found = mean_t(np.array(known)) if len(known) == len(each) else None
            yield {
                "kind": "summary",
                "twin": which,
                "trunk": arm.trunk,
                "balance": arm.balance,
                "delta_m": found and found["value"],
                "delta_m_low": found and found["low"],
                "delta_m_high": found and found["high"],
                "delta_m_p": found and found["p"],
                "better": [row["task"] for row in mine if row["verdict"] == "better"],
                "negative_transfer": [row["task"] for row in mine if row["verdict"] == "worse"],
            }


def _costs(study: Study) -> Iterator[Record]:
    seconds = {
        (arm.trunk, arm.balance): telemetry.mean(
            telemetry.seconds_per_step(run.lines, study.batch) for run in study.runs(arm)
        )
        for arm in study.together
    }
    for arm in study.together:
        run = study.runs(arm)[0]
        own, plain = seconds[arm.trunk, arm.balance], seconds.get((arm.trunk, plain_balancer()))
        yield {
            "kind": "cost",
            "trunk": arm.trunk,
            "balance": arm.balance,
            "seconds_per_step": own,
            "ratio": own / plain if own and plain else None,
            "ratio_to": plain_balancer(),
            "parameters": run.parameters,
            "heads": run.heads,
            "tables": run.tables,
        }


def _telemetry(study: Study) -> Iterator[Record]:
    for arm in study.together:
        found = telemetry.summary([run.lines for run in study.runs(arm)])
        yield {"kind": "telemetry", "trunk": arm.trunk, "balance": arm.balance, **found}


def _task(study: Study, name: str) -> TaskSpec:
    return next(task for task in study.tasks if task.name == name)


def _key(row: Record) -> tuple[str, str]:
    return row["trunk"], row["balance"]
