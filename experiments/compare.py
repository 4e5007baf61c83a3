"""Multi-task against single-task learning: every trunk with every balancer, over several seeds.

    python -m experiments.compare --config=experiments/configs/kuairand.py \
        --set=data.folder=path/to/kuairand --trunk=shared_bottom --trunk=mmoe \
        --balance=ew --balance=cagrad:c=0.4,level=shared --seeds=5 --split=valid \
        --workdir=runs/compare

Trained are, for each seed, every combination and, for each task, two single-task twins: one of the
same width, one whose trunk is scaled so that all tasks' twins have together as many parameters as
the combination. All take the same steps on the same rows in the same order and look at no later row
in training. A second start goes on where the first one stopped; finished runs are kept.

Writes compare.html (one page, nothing else is needed to read it) and compare.jsonl (its numbers).
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging
from rich.console import Console

from experiments.common import CONFIG, load_config, run
from experiments.comparison import page, show
from experiments.comparison.arms import Arm, combinations, plain_balancer, twin
from experiments.comparison.matched import Matched, match
from experiments.comparison.records import TWINS as KINDS
from experiments.comparison.records import Record, Study, Truth, records
from experiments.comparison.runs import Asked, run_all
from experiments.fitting import labels_of, main_tasks, plain
from mtl_jax.config import Config
from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.pipeline import rows_of
from mtl_jax.job import Job, open_job
from mtl_jax.train.preemption import Preempted, Preemption

BALANCE = flags.DEFINE_multi_string(
    "balance", [], "Balancer as name[:field=value,...], repeated; by default equal weights."
)
TRUNK = flags.DEFINE_multi_string("trunk", [], "Trunk, repeated; by default the configuration's.")
SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from train.seed on.", 1)
TWINS = flags.DEFINE_multi_enum(
    "twin", list(KINDS), list(KINDS), "Which single-task twins to compare with, repeated."
)
SPLIT = flags.DEFINE_enum(
    "split", "valid", ["valid", "test"], "Which later rows are compared.", allow_override=True
)
AXES = flags.DEFINE_list("axes", [], "Two tasks for the trade-off plot; by default the first two.")
REPLICATES = 2000  # at least; more where Holm's correction asks for smaller p-values


def axes_of(tasks: Sequence[TaskSpec]) -> list[str]:
    """The tasks of the trade-off plot: two, or none where there is one task."""
    names = [t.name for t in tasks]
    if not AXES.value:
        return names[:2] if len(names) > 1 else []
    if len(AXES.value) != 2 or not set(AXES.value) <= set(names):
        raise UserError(f"--axes={','.join(AXES.value)}: name two of {', '.join(names)}")
    return list(AXES.value)


def twins_of(
    job: Job, together: Sequence[Arm], tasks: Sequence[TaskSpec]
) -> tuple[dict[tuple[str, str, str], Arm], dict[str, Matched]]:
    """(which twin, trunk, task) -> its arm; and, for each trunk, how the widths were matched."""
    found: dict[tuple[str, str, str], Arm] = {}
    matched: dict[str, Matched] = {}
    for trunk in dict.fromkeys(arm.trunk for arm in together):
        model = next(arm.config for arm in together if arm.trunk == trunk)
        alone = twin(job.config, tasks[0]).config
        fit = match(job, model, alone, tasks) if "same_parameters" in TWINS.value else None
        if fit:
            matched[trunk] = fit
        for task in tasks:
            if "same_width" in TWINS.value:
                found["same_width", trunk, task.name] = twin(job.config, task)
            if fit:
                found["same_parameters", trunk, task.name] = twin(job.config, task, fit.widths)
    return found, matched


def first_record(
    job: Job, asked: Asked, seeds: Sequence[int], matched: dict[str, Matched], n: int
) -> Record:
    """What was compared."""
    config = job.config
    return {
        "kind": "comparison",
        "config": CONFIG.value,
        "source": config.data.source,
        "data": job.data.digest,
        "data_split": job.data.split_hash,
        "split": asked.split,
        "rows": len(asked.index),
        "users": len(np.unique(np.asarray(job.data.events["user"][asked.index]))),
        "train_rows": len(asked.train),
        "tasks": {t.name: t.kind for t in asked.tasks},
        "beside": [t.name for t in config.tasks if t.name not in {a.name for a in asked.tasks}],
        "seeds": list(seeds),
        "steps": config.train.steps,
        "steps_per_epoch": job.stream.steps_per_epoch,
        "batch": config.batch.size,
        "trunk_widths": list(config.model.trunk_widths),
        "log_every": config.train.log_every,
        "replicates": n,
        "plain": plain_balancer(),
        "axes": axes_of(asked.tasks),
        "matched": {trunk: dataclasses.asdict(fit) for trunk, fit in matched.items()},
        "device": jax.devices()[0].device_kind,
    }


def compare(config: Config, workdir: Path, preemption: Preemption) -> list[Record]:
    """Train what is not there yet, and compare."""
    config = plain(config, workdir)
    tasks = main_tasks(config)
    if not tasks:
        raise UserError("there is no task on events to compare")
    axes_of(tasks)
    trunks, balances = TRUNK.value or [config.model.trunk], BALANCE.value or [plain_balancer()]
    combinations(config, trunks, balances)  # what is wrong with a flag is told before work begins
    job = open_job(config, workdir)
    steps = config.train.steps or config.train.epochs * job.stream.steps_per_epoch
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))
    job = dataclasses.replace(job, config=config)
    together = combinations(config, trunks, balances)
    twins, matched = twins_of(job, together, tasks)
    arms = [*{arm.name: arm for arm in twins.values()}.values(), *together]
    index = rows_of(job.assembler, SPLIT.value)
    truth = job.assembler.event_rows(index)
    seeds = range(config.train.seed, config.train.seed + SEEDS.value)
    masks = {t.name: truth.masks[t.name] for t in tasks}
    asked = Asked(tasks, job.stream.index, SPLIT.value, index, masks, job.data.digest)
    finished = run_all(workdir, arms, seeds, asked, preemption)
    truths = []
    for task in tasks:
        keep = masks[task.name] > 0
        labels = labels_of(task, truth.labels[task.name][keep])
        truths.append(Truth(task, labels, np.asarray(job.data.events["user"][index[keep]])))
    n = max(REPLICATES, 100 * len(tasks) * len(together))
    study = Study(tasks, arms, twins, seeds, finished, config.batch.size)
    return [first_record(job, asked, seeds, matched, n), *records(study, truths, n)]


def write(found: Sequence[Record], workdir: Path) -> None:
    """compare.jsonl and the page, each whole or not."""
    lines = "".join(json.dumps(r, allow_nan=False) + "\n" for r in found)
    for name, text in (("compare.jsonl", lines), ("compare.html", page.render(found))):
        temporary = workdir / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(workdir / name)


def main() -> int:
    """Compare, write, print."""
    config, workdir = load_config()
    if not jax.config.values[
        "jax_compilation_cache_dir"
    ]:  # seeds differ in numbers, not in programs
        jax.config.update("jax_compilation_cache_dir", str((workdir / "compiled").absolute()))
    with Preemption() as preemption:
        try:
            found = compare(config, workdir, preemption)
        except Preempted:
            logging.info("stopped by a signal; start again with the same flags to go on")
            logging.flush()
            os._exit(0)  # a thread may still be compiling
    write(found, workdir)
    console = Console()
    for table in show.tables(found):
        Console(width=max(console.width, 140)).print(table)
    print(f"page: {workdir / 'compare.html'}   numbers: {workdir / 'compare.jsonl'}")
    return 0


if __name__ == "__main__":
    run(main)
