"""Train many seeds, learning rates and task weights of one configuration as one program.

    python -m experiments.lanes --config=experiments/configs/quickstart.py --workdir=runs/lanes \
        --seeds=4 --rates=1e-3,3e-4 --task_weights=click=1|2,rating=0.3

trains a lane for every combination: 4 seeds (train.seed and the next ones) x 2 learning rates x 2
weights of click = 16 lanes. What no flag names is the configuration's. All lanes see the same
batches in the same order, that of train.seed, and none another lane's numbers: WORKDIR/lane_0,
lane_1, ... are each what `experiments.train` would have made of that lane's config.json, and
`experiments.evaluate` and `experiments.recommend` work there (--workdir=WORKDIR/lane_0).

A second start with the same flags goes on where the last one stopped; SIGTERM saves and exits 0.
A lane whose updates are not finite is stopped and named; the others go on.
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.fitting import MAIN, main_tasks
from experiments.train import save_config, write_metrics
from mtl_jax.config import Config, parse, to_dict
from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.data.pipeline import PARTS
from mtl_jax.job import Job, open_job
from mtl_jax.metrics.table import number, value_at
from mtl_jax.train.evaluation import evaluate
from mtl_jax.train.lanes_loop import Lane, Outcome, Together, check_devices, train
from mtl_jax.train.mesh import make_mesh
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.state import TrainState

SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds, from train.seed on.", 1)
RATES = flags.DEFINE_list("rates", [], "Learning rates instead of optim.learning_rate's: 1e-3,3e-4")
WEIGHTS = flags.DEFINE_list(
    "task_weights", [], "Weights of tasks instead of tasks.NAME.weight: click=1|2,rating=0.3|1"
)
SPLIT = flags.DEFINE_enum(
    "split", "valid", list(PARTS)[1:], "Which part the trained lanes are evaluated on.",
    allow_override=True,
)  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """What a lane may differ in: seed, learning rate, weight of every task."""

    seed: int
    rate: float
    weights: tuple[float, ...]

    def of(self, config: Config, workdir: Path) -> Config:
        """The configuration of a run of its own that this lane equals."""
        pairs = zip(config.tasks, self.weights, strict=True)
        t = config.train
        order = t.seed if t.order_seed == -1 else t.order_seed
        folder = config.data.prepared or str((workdir / "prepared").absolute())
        return dataclasses.replace(
            config,
            tasks=tuple(dataclasses.replace(task, weight=w) for task, w in pairs),
            data=dataclasses.replace(config.data, prepared=folder),
            optim=dataclasses.replace(config.optim, learning_rate=self.rate),
            train=dataclasses.replace(t, seed=self.seed, order_seed=order, mesh=1),
        )


def combinations(
    config: Config, seeds: int, rates: Sequence[str], weights: Sequence[str]
) -> list[Numbers]:
    """Every combination; seeds change fastest. UserError for what is no number or no task."""
    own = [t.name for t in config.tasks]
    asked = {t.name: [t.weight] for t in config.tasks}
    for text in weights:
        name, equals, values = text.partition("=")
        if name not in own or not equals:
            raise UserError(
                f"--task_weights={text}: write it as TASK=WEIGHT|WEIGHT. {nearest(name, own)}"
            )
        asked[name] = list(_numbers(values.split("|"), f"--task_weights={text}", 0.0))
    peaks = list(_numbers(rates, "--rates")) or [config.optim.learning_rate]
    first = config.train.seed
    return [
        Numbers(seed, rate, chosen)
        for chosen in itertools.product(*asked.values())
        for rate in peaks
        for seed in range(first, first + seeds)
    ]


def _numbers(texts: Sequence[str], flag: str, least: float | None = None) -> Iterator[float]:
    for text in texts:
        value: float = parse(text, float, flag)
        if not np.isfinite(value) or value < 0 or (least is None and value == 0):
            raise UserError(
                f"{flag}: {text!r} must be {'above 0' if least is None else '0 or more'}"
            )
        yield value


def together_of(job: Job, workdir: Path, numbers: Sequence[Numbers], devices: int) -> Together:
    """The lanes of `numbers`, in folders of `workdir`; job: the configuration's, on one device."""
    base = job.run()
    lanes = []
    for n, own in enumerate(numbers):
        folder = workdir / f"lane_{n}"
        meta = {**base.meta, "config": to_dict(own.of(job.config, workdir))}
        run_ = dataclasses.replace(base, workdir=folder, meta=meta)
        key = np.asarray(jax.random.PRNGKey(own.seed))
        lanes.append(Lane(folder.name, run_, key, own.rate, own.weights))
    return Together(tuple(lanes), *job.lane(), make_mesh(devices), workdir)


def train_lanes(
    job: Job, workdir: Path, numbers: Sequence[Numbers], devices: int, preemption: Preemption
) -> list[dict[str, Any]]:
    """Train all lanes to their ends and write each one's metrics.json; what is in it."""
    c, split = job.config.train, SPLIT.value
    evaluator = job.evaluator(preemption.check)

    def look(state: TrainState, part: str, replicates: int, rows: int) -> Any:
        return evaluate(evaluator, state.params, state.tables, part, replicates, rows)[0]

    together = together_of(job, workdir, numbers, devices)
    quiet = not sys.stderr.isatty()
    outcomes = train(
        together, lambda s: look(s, c.eval_part, c.bootstrap, c.eval_rows), preemption, quiet
    )
    found = []
    for lane, own, outcome in zip(together.lanes, numbers, outcomes, strict=True):
        results: dict[str, Any] = {"step": outcome.step, "skipped": outcome.progress.skipped}
        if not broken(job, outcome):
            results[split] = look(outcome.state, split, 500, 0)
        write_metrics(lane.run.workdir, job.data, results)
        save_config(own.of(job.config, workdir), lane.run.workdir)
        found.append(results)
    return found


def broken(job: Job, outcome: Outcome) -> bool:
    """Whether the lane was stopped by updates that were not finite."""
    return outcome.progress.skipped > job.config.train.non_finite


def table_of(
    config: Config, numbers: Sequence[Numbers], found: Sequence[dict[str, Any]], split: str
) -> Table:
    """A row per lane with each task's main metric; below them mean and standard deviation.

    Lanes that differ in their seed alone are summed up together.
    """
    tasks = [(t.name, MAIN[t.kind]) for t in main_tasks(config)]
    table = Table(title=f"{len(numbers)} lanes on {split}")
    for head in ("lane", "seed", "rate", "weights", "step"):
        table.add_column(head)
    for name, metric in tasks:
        table.add_column(f"{name} {metric}", justify="right")

    def weights_of(own: Numbers) -> str:
        pairs = zip(config.tasks, own.weights, strict=True)
        return " ".join(f"{t.name}={w:g}" for t, w in pairs if w != t.weight)

    for _, group in itertools.groupby(
        zip(itertools.count(), numbers, found), lambda x: dataclasses.replace(x[1], seed=0)
    ):
        lanes = list(group)
        values = []
        for n, own, results in lanes:
            row = [value_at(results, split, task, "all", metric) for task, metric in tasks]
            values.append([np.nan if v is None else v for v in row])
            told = str(results["step"]) if split in results else f"{results['step']}, not finite"
            table.add_row(
                f"lane_{n}", str(own.seed), f"{own.rate:g}", weights_of(own), told,
                *(number(v) for v in row),
            )  # fmt: skip
        if len(lanes) > 1:
            table.add_row("mean ± sd", "", "", "", "", *map(_spread, np.array(values).T))
        table.add_section()
    return table


def _spread(values: Any) -> str:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return "-"
    return f"{known.mean():.4f} ± {known.std(ddof=1):.4f}"


def main() -> int:
    """Train the flags' lanes, write, print."""
    config, workdir = load_config()
    numbers = combinations(config, SEEDS.value, RATES.value, WEIGHTS.value)
    if config.encoder.random and SEEDS.value > 1:
        raise UserError("--seeds: encoder.random draws the one encoder that all lanes share")
    devices = make_mesh(config.train.mesh).size
    check_devices(len(numbers), devices)
    alone = dataclasses.replace(config, train=dataclasses.replace(config.train, mesh=1))
    with Preemption() as preemption:
        try:
            job = preemption.wait_for(lambda: open_job(alone, workdir))
            found = train_lanes(job, workdir, numbers, devices, preemption)
        except Preempted:
            logging.info("stopped by a signal; start again with the same flags to go on")
            logging.flush()
            os._exit(0)  # a thread may still be compiling
    console = Console()
    table = table_of(config, numbers, found, SPLIT.value)
    Console(width=max(console.width, 100)).print(table)
    print(f"each lane's metrics.json, curves and checkpoints: {workdir / 'lane_*'}")
    return 0


if __name__ == "__main__":
    run(main)
