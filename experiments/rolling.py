"""Train on the months before, check on the months after, inside the training part alone.

    python -m experiments.rolling --config=experiments/configs/ml1m.py \
        --set=data.folder=path/to/ml-1m-collm --workdir=runs/ml1m-rolling \
        --fold=2002-01-01:2002-04-01 --fold=2001-10-01:2002-01-01

For each --fold=FROM:UNTIL a model is trained on what lies before FROM and compared, on the rows
from FROM to UNTIL, with the count floor (the sum of --floor's columns) by a paired bootstrap over
users. Rows from UNTIL on are in no table: neither trained on, nor looked at.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from mtl_jax.config import Config
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.prepared import Prepared
from mtl_jax.job import Job, open_job
from mtl_jax.metrics.bootstrap import Entry, paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells, number
from mtl_jax.train.loop import train
from mtl_jax.train.preemption import Preemption
from mtl_jax.train.state import TrainState

FOLDS = flags.DEFINE_multi_string("fold", [], "FROM:UNTIL, days as 2002-01-01; repeated.")
TASK = flags.DEFINE_string("task", "like", "The binary task that is compared.")
FLOOR = flags.DEFINE_list(
    "floor", "item.like.rate,user.like.rate", "Statistics whose sum is the floor."
)


def seconds(day: str) -> int:
    """Unix seconds of a day's start, UTC; UserError where it is no day."""
    try:
        return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise UserError(f"--fold: {day!r} is no day; write it as 2002-01-01") from None


def fold_config(config: Config, fold: str) -> Config:
    """The configuration with the cut times of a fold, and no look at anything while training."""
    if fold.count(":") != 1:
        raise UserError(f"--fold={fold}: write it as FROM:UNTIL")
    start, end = (seconds(day) for day in fold.split(":"))
    data = dataclasses.replace(config.data, split="time", valid_from=start, test_from=end)
    train_ = dataclasses.replace(config.train, eval_part="", monitor="")
    return dataclasses.replace(config, data=data, train=train_)


def fit(config: Config, workdir: Path) -> tuple[Job, TrainState]:
    """A model trained to the end, or opened where that has been done."""
    workdir.mkdir(parents=True, exist_ok=True)
    with Preemption() as preemption:
        job = open_job(config, workdir)
        state, _, _ = train(job.run(), lambda _: {}, preemption, quiet=True)
    return job, state


def floor_of(data: Prepared, index: HostArray, columns: list[str]) -> HostArray:
    """The sum of named statistics of events `index`: counts that any model must beat."""
    names = [c.name for c in data.schema.statistics]
    for column in columns:
        if column not in names:
            raise UserError(f"--floor: no statistic {column!r} among {', '.join(names)}")
    picked = np.asarray(data.events["stats"][index])[:, [names.index(c) for c in columns]]
    return picked.astype(np.float64).sum(1)


def check(job: Job, state: TrainState) -> dict[str, Any]:
    """Figures of the check rows, with the predictions they come from."""
    data = job.data
    index = data.part(1)
    y = np.asarray(data.events[f"label_{TASK.value}"][index], np.float64)
    index, y = index[np.isfinite(y)], y[np.isfinite(y)]
    prediction = job.evaluator().predict(state.params, state.tables, index)[TASK.value]
    users = np.asarray(data.events["user"][index])
    floor = floor_of(data, index, FLOOR.value)
    auc = METRICS["binary"]["auc"]
    gain: Entry = paired_difference(auc, y, prediction.astype(np.float64), floor, users)
    told = {"data_split": data.split_hash, "rows": len(y)}
    return {**told, "auc": auc(y, prediction), "floor": auc(y, floor), "gain": gain}


def main() -> None:
    """Train and check every fold; print and write rolling.json."""
    config, workdir = load_config()
    if not FOLDS.value:
        raise UserError("--fold is needed, at least once")
    table = Table(title=f"rolling months, {TASK.value}: AUC")
    for head in ("fold", "rows", "floor", "model", "model - floor", "95 % interval"):
        table.add_column(head, justify="left" if head == "fold" else "right")
    found = {}
    for fold in FOLDS.value:
        name = fold.replace(":", "_")
        result = check(*fit(fold_config(config, fold), workdir / name))
        found[fold] = result
        cells = entry_cells(result["gain"])[:2]
        row = (f"{result['rows']:,}", number(result["floor"]), number(result["auc"]), *cells)
        table.add_row(fold, *row)
    (workdir / "rolling.json").write_text(json.dumps(found, indent=1) + "\n")
    Console().print(table)


if __name__ == "__main__":
    run(main)
