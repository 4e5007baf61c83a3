"""The training loop: step, evaluate, save; resumes by itself and stops cleanly."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import TrainStream, prefetched
from mtl_jax.nn.model import Model
from mtl_jax.train import distributed
from mtl_jax.train.checkpoint import Checkpoints
from mtl_jax.train.config import TrainConfig
from mtl_jax.train.fetch import fetch
from mtl_jax.train.fingerprint import check_same, fingerprint, with_recorded_shards
from mtl_jax.train.journal import Journal, Silent
from mtl_jax.train.lock import locked
from mtl_jax.train.mesh import batch_devices, put_batch
from mtl_jax.train.monitor import check_monitor, higher, monitored
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.programs import HostBatch, Programs
from mtl_jax.train.startup import Startup
from mtl_jax.train.state import TrainState
from mtl_jax.train.step import Step

# part -> {task: {slice: {metric: entry}}}
Evaluate = Callable[[TrainState], dict[str, Any]]  # not called where train.eval_part is ""


@dataclass
class Progress:
    """What the loop remembers beside the state; saved in every checkpoint as JSON."""

    history: list[dict[str, Any]] = field(default_factory=list)  # {"step", "monitor", "metrics"}
    best_step: int = -1
    best: float | None = None
    waited: int = 0
    skipped: int = 0
    stopped: bool = False

    def evaluated_at(self) -> int:
        """Step of the last evaluation, -1 before any."""
        return int(self.history[-1]["step"]) if self.history else -1

    def keep_to(self, steps: Sequence[int], monitor: str) -> None:
        """Where the best step is not among `steps`, the best of these takes its place."""
        if self.best_step in (-1, *steps):
            return
        sign = 1 if higher(monitor) else -1
        left = [h for h in self.history if h["step"] in steps and h["monitor"] is not None]
        found = max(left, key=lambda h: (sign * h["monitor"], h["step"]), default=None)
        logging.warning(
            "the best step, %d, is lost; %s takes its place",
            self.best_step, found["step"] if found else "the last one",
        )  # fmt: skip
        self.best_step, self.best = (found["step"], found["monitor"]) if found else (-1, None)


@dataclass(frozen=True)
class Run:
    """All that the loop needs, made once. options: see `mtl_jax.train.programs.Programs`."""

    model: Model
    stream: TrainStream
    train: TrainConfig
    mesh: Mesh
    step: Step
    create: Callable[[], TrainState]
    total: int
    workdir: Path
    meta: dict[str, Any]
    startup: Startup = field(default_factory=Startup)
    options: Callable[[HostBatch], Any] = lambda batch: None

    def evaluates_at(self, step: int) -> bool:
        """Whether the model is evaluated after `step` steps."""
        if not self.train.eval_part or self.train.eval_every < 0 or step == 0:
            return False
        every = self.train.eval_every or self.stream.steps_per_epoch
        return step % every == 0 or step == self.total


def train(
    run: Run, evaluate: Evaluate | None, preemption: Preemption, quiet: bool = False
) -> tuple[TrainState, Progress, int]:
    """Train to the end, or from the last checkpoint to the end.

    Returns the state to use (the best by the monitor, else the last), progress, and its step.
    Raises Preempted once a signal has come and the state is saved; UserError where another training
    works in the folder, where its checkpoints are of another run or all damaged, or the disk full.
    """
    check_monitor(run.train.monitor, run.model)
    lock = locked(run.workdir) if distributed.first() else nullcontext()
    with lock, Checkpoints(run.workdir) as checkpoints:
        run, state, progress, programs = _start(run, checkpoints, preemption)
        start = int(state.step)
        first = distributed.first()
        journals = Journal(run.workdir, start, run.total, quiet) if first else Silent()
        with journals as journal:
            for step, why in checkpoints.damaged.items():
                journal.event(start, "damaged", checkpoint=step, why=why)
            if start:
                journal.event(start, "resume")
                logging.info("resuming from step %d of %d", start, run.total)
            state = _train(
                run, state, programs, progress, evaluate, checkpoints, journal, preemption
            )
            return kept(run, state, progress, checkpoints, journal)


def _start(
    run: Run, checkpoints: Checkpoints, preemption: Preemption
) -> tuple[Run, TrainState, Progress, Programs]:
    latest = checkpoints.latest()
    meta = {} if latest is None else checkpoints.meta(latest)
    if meta:
        run = _as_started(run, meta)
        check_same(run.workdir, meta, run.meta)
    programs = Programs(run.step, run.mesh, abstract(run.create), run.options)
    if (latest or 0) < run.total and not meta.get("progress", {}).get("stopped"):
        programs.ahead(run.stream.batch(latest or 0))
    run.startup.lap("model")
    if latest is None:
        state, progress = preemption.wait_for(run.create), Progress()
    else:
        state, progress = checkpoints.restore(latest, programs.state), Progress(**meta["progress"])
        progress.keep_to(checkpoints.steps(), run.train.monitor)
    run.startup.lap("state")
    return run, state, progress, programs


def _as_started(run: Run, meta: dict[str, Any]) -> Run:
    """`run` in the data shards it was started with, unless the configuration names others."""
    if "pipeline" not in meta or run.meta["config"]["batch"]["shards"]:
        return run
    stream = with_recorded_shards(run.stream, meta, batch_devices(run.mesh))
    if stream.shards == run.stream.shards:
        return run
    return replace(run, stream=stream, meta={**run.meta, "pipeline": fingerprint(stream)})


def abstract(create: Callable[[], TrainState]) -> TrainState:
    """Shapes, dtypes and shardings of the state, without making one."""
    shapes: TrainState = jax.eval_shape(create)
    return shapes


def _train(
    run: Run,
    state: TrainState,
    programs: Programs,
    progress: Progress,
    evaluate: Evaluate | None,
    checkpoints: Checkpoints,
    journal: Journal | Silent,
    preemption: Preemption,
) -> TrainState:
    step = int(state.step)
    batches = prefetched(run.stream, step, run.total)
    pending: tuple[int, Any, dict[str, HostArray]] | None = None
    sums = Sums(run.model)
    try:
        while True:
            if run.evaluates_at(step) and progress.evaluated_at() != step:
                _read(run, pending, sums, progress, journal)
                pending = None
                look(run, state, step, evaluate, progress, checkpoints, journal)
            elif saves(run, step) and checkpoints.latest() != step:
                _read(run, pending, sums, progress, journal)
                pending = None
                save(run, state, step, progress, checkpoints)
            if step >= run.total or progress.stopped:
                break
            preemption.check(step)
            asked = time.perf_counter()
            batch = next(batches)
            journal.waited(time.perf_counter() - asked)
            run.startup.lap("batch")
            placed = put_batch(run.mesh, batch)
            program = programs.of(batch, preemption)
            run.startup.lap("compile")
            state, metrics = program(state, placed)
            if not run.startup.told:
                jax.block_until_ready(metrics)  # from now on the device is a step ahead
                run.startup.lap("first_step")
                compiling = sum(programs.seconds.values())
                journal.started(step, {**run.startup.tell(), "compiling": compiling})
            _read(run, pending, sums, progress, journal)
            pending = (step, metrics, batch)
            step += 1
            journal.advance(step, run.stream.assembler.config.size)
        _read(run, pending, sums, progress, journal)
        if checkpoints.latest() != step:
            save(run, state, step, progress, checkpoints)
        checkpoints.wait()
        return state
    except Preempted:
        _read(run, pending, sums, progress, journal)
        if step > 0 and checkpoints.latest() != step:
            save(run, state, step, progress, checkpoints)
        checkpoints.wait()
        journal.event(step, "preempted")
        raise
    finally:
        close = getattr(batches, "close", None)
        if close:
            close()


class Sums:
    """Loss sums and counts since the last line of the journal."""

    def __init__(self, model: Model) -> None:
        self.names = [t.name for t in model.tasks]
        self.loss, self.count = np.zeros(len(self.names)), np.zeros(len(self.names))

    def add(self, metrics: dict[str, HostArray]) -> None:
        if metrics["finite"]:
            self.loss += metrics["loss_sum"]
            self.count += metrics["count"]

    def flush(self, metrics: dict[str, HostArray]) -> dict[str, float]:
        means = self.loss / np.maximum(self.count, 1)
        line = {f"loss/{n}": float(v) for n, v in zip(self.names, means, strict=True)}
        line |= {
            f"weight/{n}": float(v) for n, v in zip(self.names, metrics["weights"], strict=True)
        }
        line["loss"] = float(np.sum(means * metrics["weights"]))
        line |= {k: float(metrics[k]) for k in ("grad_norm", "update_norm", "param_norm")}
        line |= named({k: v for k, v in metrics.items() if k.startswith("balance/")}, self.names)
        self.loss[:], self.count[:] = 0, 0
        return line


def named(values: dict[str, HostArray], tasks: Sequence[str]) -> dict[str, float]:
    """Scalars by name; [T] values by task, [T, T] ones by pair of tasks ("cosine/click|like")."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if value.shape == ():
            found[name] = float(value)
        elif value.shape == (len(tasks),):
            found |= {f"{name}/{t}": float(v) for t, v in zip(tasks, value, strict=True)}
        elif value.shape == (len(tasks), len(tasks)):
            for i, j in itertools.combinations(range(len(tasks)), 2):
                found[f"{name}/{tasks[i]}|{tasks[j]}"] = float(value[i, j])
    return found


def _read(
    run: Run, pending: Any, sums: Sums, progress: Progress, journal: Journal | Silent
) -> None:
    """Read the metrics of the step before, which the device has finished meanwhile."""
    if pending is None:
        return
    step, metrics, batch = pending
    note(run, step, fetch(metrics), batch, sums, progress, journal)


def note(
    run: Run,
    step: int,
    found: dict[str, HostArray],
    batch: dict[str, HostArray],
    sums: Sums,
    progress: Progress,
    journal: Journal | Silent,
) -> dict[str, float]:
    """Write down the metrics of a step; the line that was due, or {}.

    Raises UserError if this update is one more that is not finite than are skipped.
    """
    sums.add(found)
    if not found["finite"]:
        progress.skipped += 1
        journal.event(step, "non_finite", skipped=progress.skipped)
        if progress.skipped > run.train.non_finite:
            _stop_non_finite(run, step, found, batch)
    if (step + 1) % run.train.log_every:
        return {}
    line = sums.flush(found)
    journal.train(step + 1, line)
    return line


def _stop_non_finite(
    run: Run, step: int, metrics: dict[str, HostArray], batch: dict[str, HostArray]
) -> None:
    path = run.workdir / f"non_finite_step_{step}.npz"
    arrays: Any = {k.replace("/", "__"): v for k, v in batch.items()}
    if distributed.first():
        np.savez(path, **arrays)
    losses = zip((t.name for t in run.model.tasks), metrics["loss_sum"], strict=True)
    bad = [name for name, value in losses if not math.isfinite(value)]
    what = f"the loss of {', '.join(bad)}" if bad else "the gradient"
    raise UserError(
        f"step {step}: {what} is not finite; the update was not applied "
        f"({metrics['finite']=:.0f}, train.non_finite={run.train.non_finite} are skipped). "
        f"The batch is in {path}. Lower optim.learning_rate, or look at the labels."
    )


def saves(run: Run, step: int) -> bool:
    """Whether a checkpoint is due after `step` steps besides those at evaluations."""
    every = run.train.checkpoint_every
    return bool(every) and step > 0 and step % every == 0


def look(
    run: Run,
    state: TrainState,
    step: int,
    evaluate: Evaluate | None,
    progress: Progress,
    checkpoints: Checkpoints,
    journal: Journal | Silent,
) -> None:
    """Evaluate at `step`, see whether it is the best so far or time to stop, and save."""
    assert evaluate is not None
    metrics = evaluate(state)
    value = monitored(run.train.monitor, metrics)
    progress.history.append({"step": step, "monitor": value, "metrics": metrics})
    better = value is not None and (
        progress.best is None
        or (value >= progress.best if higher(run.train.monitor) else value <= progress.best)
    )
    if better:
        progress.best, progress.best_step, progress.waited = value, step, 0
    else:
        progress.waited += 1
    if run.train.monitor and run.train.patience and progress.waited >= run.train.patience:
        progress.stopped = True
        logging.info("no better %s for %d evaluations", run.train.monitor, progress.waited)
    journal.evaluated(step, dict(_flat(metrics)))
    save(run, state, step, progress, checkpoints)


def _flat(metrics: dict[str, Any]) -> Any:
    for task, slices in metrics.items():
        for name, entry in slices["all"].items():
            if entry["value"] is not None:
                yield f"{task}/{name}", entry["value"]


def save(
    run: Run, state: TrainState, step: int, progress: Progress, checkpoints: Checkpoints
) -> None:
    """Start to write the checkpoint of `step`."""
    meta = {**run.meta, "progress": vars(progress), "step": step}
    checkpoints.save(step, state, meta, progress.best_step)


def kept(
    run: Run,
    state: TrainState,
    progress: Progress,
    checkpoints: Checkpoints,
    journal: Journal | Silent,
) -> tuple[TrainState, Progress, int]:
    """The best state by the monitor (else `state`, the last one), progress, and its step."""
    step, left = int(state.step), checkpoints.steps()
    while run.train.monitor and progress.best_step not in (-1, step):
        damage = checkpoints.damage(progress.best_step)
        if not damage:
            best = progress.best_step
            return checkpoints.restore(best, abstract(run.create)), progress, best
        logging.warning("checkpoint %d is damaged and left out: %s", progress.best_step, damage)
        journal.event(step, "damaged", checkpoint=progress.best_step, why=damage)
        left.remove(progress.best_step)
        progress.keep_to(left, run.train.monitor)
    return state, progress, step
