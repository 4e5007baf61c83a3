"""Train, or go on training, and evaluate on the valid part.

    python -m experiments.train --config=experiments/configs/ml100k.py \
        --set=data.folder=path/to/ml-100k --workdir=runs/ml100k

A second start with the same --workdir continues from the last checkpoint. SIGTERM saves and
exits 0. Several processes train together when each is told where the first one listens, how many
they are, and its own number: --coordinator=localhost:7777 --processes=2 --process=0
(experiments/supervise.py starts them, and starts them again).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from absl import flags, logging
from rich.console import Console

from experiments.common import load_config, run
from mtl_jax.config import Config, to_dict
from mtl_jax.core.errors import UserError
from mtl_jax.data.prepared import Prepared
from mtl_jax.job import Job, open_job
from mtl_jax.metrics.table import metrics_table
from mtl_jax.train import distributed
from mtl_jax.train.evaluation import evaluate
from mtl_jax.train.lock import in_turn
from mtl_jax.train.loop import train
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.state import TrainState

COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, with --processes.")
PROCESSES = flags.DEFINE_integer("processes", 1, "How many processes train together.")
PROCESS = flags.DEFINE_integer("process", 0, "The number of this one.")


def train_job(job: Job, preemption: Preemption) -> dict[str, Any]:
    """Train to the end and write metrics.json; the metrics of the kept step on valid."""
    c = job.config.train
    evaluator = job.evaluator(preemption.check)

    def look(state: TrainState, replicates: int, rows: int) -> Any:
        return evaluate(evaluator, state.params, state.tables, c.eval_part, replicates, rows)[0]

    run_ = job.run()
    state, progress, step = train(
        run_, lambda s: look(s, c.bootstrap, c.eval_rows), preemption, not sys.stderr.isatty()
    )
    results: dict[str, Any] = {"step": step, "skipped": progress.skipped}
    if c.eval_part:
        results[c.eval_part] = look(state, 500, 0)
    write_metrics(job.workdir, job.data, results)
    return results


def write_metrics(workdir: Path, data: Prepared, results: dict[str, Any]) -> None:
    """Merge `results`, and the hash of the split they are of, into metrics.json, whole or not."""
    if not distributed.first():
        return
    path = workdir / "metrics.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    temporary = path.with_suffix(".tmp")
    found |= {"data_split": data.split_hash, **results}
    temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def save_config(config: Config, workdir: Path) -> None:
    """config.json beside the checkpoints, for the scripts that come after."""
    (workdir / "config.json").write_text(json.dumps(to_dict(config), indent=1) + "\n")


def main() -> int:
    """Train with the flags' configuration."""
    config, workdir = load_config()
    if PROCESSES.value > 1:
        if not COORDINATOR.value or not 0 <= PROCESS.value < PROCESSES.value:
            raise UserError("--processes: needs --coordinator=host:port and --process from 0 on")
        distributed.join(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    with Preemption() as preemption:
        try:
            with in_turn(workdir):  # one process prepares the data, the others find it
                job = preemption.wait_for(lambda: open_job(config, workdir))
            results = train_job(job, preemption)
        except Preempted:
            logging.info("stopped by a signal; start again with the same --workdir to go on")
            logging.flush()
            distributed.leave()
            os._exit(0)  # a thread may still be compiling
    distributed.leave()
    if PROCESS.value:
        return 0
    save_config(config, workdir)
    shown: dict[str, Any] = {k: v for k, v in results.items() if k == config.train.eval_part}
    Console().print(metrics_table(shown, f"step {results['step']}"))
    print(f"metrics: {workdir / 'metrics.json'}   tensorboard --logdir {workdir / 'tensorboard'}")
    return 0


if __name__ == "__main__":
    run(main)
