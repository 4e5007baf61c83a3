"""Trains arms, each in a folder of its own, and keeps what the comparison reads of them.

A finished run has run.json and values_<split>.npz; it is not opened again. One that was interrupted
goes on from its last checkpoint.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.comparison import telemetry
from experiments.comparison.arms import Arm
from experiments.fitting import fit, values_of
from mtl_jax.config import Config, to_dict
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import count
from mtl_jax.core.types import HostArray
from mtl_jax.train.fingerprint import check_same
from mtl_jax.train.preemption import Preemption

FOLDER, RUN = "runs", "run.json"


@dataclass(frozen=True)
class Asked:
    """What every run is asked: the same rows in training, the same later rows afterwards.

    tasks: those that are compared.  train: training events, in the order that seeds permute.
    index, masks: events of `split`, and which of them have a task's label.  data: digest.
    """

    tasks: tuple[TaskSpec, ...]
    train: HostArray
    split: str
    index: HostArray
    masks: Mapping[str, HostArray]
    data: str


@dataclass(frozen=True)
class Finished:
    """values: task -> what its metric reads, per labelled row; parameters, tables: counts."""

    arm: Arm
    seed: int
    folder: Path
    values: Mapping[str, HostArray]
    parameters: int
    heads: int
    tables: int
    lines: Sequence[telemetry.Line]


def folder_of(workdir: Path, arm: Arm, seed: int) -> Path:
    """Where a run lives."""
    return workdir / FOLDER / arm.name / f"seed_{seed}"


def run_one(workdir: Path, arm: Arm, seed: int, asked: Asked, preemption: Preemption) -> Finished:
    """The run, trained if it is not there. Raises UserError where its folder has another one."""
    folder = folder_of(workdir, arm, seed)
    config = dataclasses.replace(arm.config, train=dataclasses.replace(arm.config.train, seed=seed))
    told, values = _finished(folder, config, asked)
    if told is None or values is None:
        tasks = tuple(t for t in asked.tasks if not arm.task or t.name == arm.task)
        job, state = fit(config, folder, asked.train, preemption, quiet=True)
        values = values_of(job, state, tasks, asked.index, asked.masks)
        told = {
            "parameters": count(state.params),
            "heads": count(state.params["heads"]),
            "tables": count(state.tables),
        }
        _keep(folder, config, asked, told, values)
    return Finished(arm, seed, folder, values, lines=telemetry.read(folder), **told)


def _finished(
    folder: Path, config: Config, asked: Asked
) -> tuple[dict[str, int] | None, dict[str, HostArray] | None]:
    if not (folder / RUN).exists():
        return None, None
    kept = json.loads((folder / RUN).read_text())
    same = {"config": json.loads(json.dumps(to_dict(config))), "data": asked.data}
    check_same(folder, kept, same)
    path = folder / f"values_{asked.split}.npz"
    if not path.exists():
        return kept["told"], None
    with np.load(path) as arrays:
        return kept["told"], {name: arrays[name] for name in arrays.files}


def _keep(
    folder: Path,
    config: Config,
    asked: Asked,
    told: dict[str, int],
    values: Mapping[str, HostArray],
) -> None:
    """Values first: where run.json is, they are whole."""
    path, temporary = folder / f"values_{asked.split}.npz", folder / "values.tmp.npz"
    arrays: Any = dict(values)
    np.savez_compressed(temporary, **arrays)
    temporary.replace(path)
    temporary = folder / "run.tmp"
    kept = {"config": to_dict(config), "data": asked.data, "told": told}
    temporary.write_text(json.dumps(kept, indent=1) + "\n")
    temporary.replace(folder / RUN)


def run_all(
    workdir: Path, arms: Sequence[Arm], seeds: Sequence[int], asked: Asked, preemption: Preemption
) -> list[Finished]:
    """Every arm with every seed, with a table of bars, one line for each arm."""
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    lines = {
        arm.name: bars.add_task(arm.name, total=len(seeds), note="", start=False) for arm in arms
    }
    total = bars.add_task("[bold]all runs", total=len(arms) * len(seeds), note="")
    found = []
    with bars:
        for arm in arms:
            bars.start_task(lines[arm.name])
            for seed in seeds:
                preemption.check()
                bars.update(lines[arm.name], note=f"seed {seed}")
                found.append(run_one(workdir, arm, seed, asked, preemption))
                bars.advance(lines[arm.name])
                bars.advance(total)
            bars.update(lines[arm.name], note="")
            bars.stop_task(lines[arm.name])
    return found
