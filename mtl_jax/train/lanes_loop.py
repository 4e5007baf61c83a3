"""The training loop of lanes: one step for all, and for each what a run of its own would write."""

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import prefetched
from mtl_jax.train import lanes as program
from mtl_jax.train.checkpoint import Checkpoints
from mtl_jax.train.fetch import fetch
from mtl_jax.train.fingerprint import check_same
from mtl_jax.train.journal import Journal
from mtl_jax.train.lanes import Knobs, Lanes, StepOf
from mtl_jax.train.lock import locked
from mtl_jax.train.loop import (
    Evaluate,
    Progress,
    Run,
    Sums,
    abstract,
    kept,
    look,
    note,
    save,
    saves,
)
from mtl_jax.train.mesh import replicated
from mtl_jax.train.monitor import check_monitor
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.state import TrainState

Groups = list[Lanes]  # of equal numbers of lanes, in order


@dataclass(frozen=True)
class Lane:
    """One lane: its run (own folder, own configuration in `meta`), key [2], rate, weights [T]."""

    name: str
    run: Run
    key: HostArray
    rate: float
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Together:
    """Lanes that are trained as one program; their runs share stream, model and length.

    first, step_of: see `mtl_jax.job.Job.lane`. mesh: the devices that the lanes are spread over.
    """

    lanes: tuple[Lane, ...]
    first: program.FirstOf
    step_of: StepOf
    mesh: Mesh
    workdir: Path


@dataclass(frozen=True)
class Outcome:
    """A lane at its end: the state to use (see `loop.train`), progress, the state's step."""

    state: TrainState
    progress: Progress
    step: int


@dataclass
class Held:
    """A lane in training."""

    n: int
    lane: Lane
    checkpoints: Checkpoints
    progress: Progress
    sums: Sums
    journal: Journal | None = None

    @property
    def goes(self) -> bool:
        """Whether it is still trained."""
        return not self.progress.stopped


def train(
    together: Together, evaluate: Evaluate, preemption: Preemption, quiet: bool = False
) -> list[Outcome]:
    """Train all lanes to their ends, or from the last step that all have saved.

    Raises what `loop.train` raises, but for a lane whose updates are not finite: it is stopped and
    named, and the others go on.
    """
    run = together.lanes[0].run
    check_devices(len(together.lanes), together.mesh.size)
    check_monitor(run.train.monitor, run.model)
    with ExitStack() as stack:
        stack.enter_context(locked(together.workdir))
        held = []
        for n, lane in enumerate(together.lanes):
            lane.run.workdir.mkdir(exist_ok=True)
            stack.enter_context(locked(lane.run.workdir))
            checkpoints = stack.enter_context(Checkpoints(lane.run.workdir))
            held.append(Held(n, lane, checkpoints, Progress(), Sums(run.model)))
        groups = _start(together, held, preemption)
        start = int(groups[0].step)
        whole = stack.enter_context(Journal(together.workdir, start, run.total, quiet))
        for h in held:
            own = start if h.goes else max(start, h.checkpoints.latest() or 0)
            h.journal = stack.enter_context(Journal(h.lane.run.workdir, own, run.total, True))
            for step, why in h.checkpoints.damaged.items():
                h.journal.event(own, "damaged", checkpoint=step, why=why)
            if start and h.goes:
                h.journal.event(start, "resume")
        if start:
            whole.event(start, "resume")
            logging.info("resuming from step %d of %d", start, run.total)
        groups = _train(together, held, groups, evaluate, whole, preemption)
        return [_end(h, groups) for h in held]


def check_devices(lanes: int, devices: int) -> None:
    """UserError where the lanes do not spread evenly over the devices."""
    if lanes % devices:
        raise UserError(
            f"{lanes} lanes cannot be spread evenly over {devices} devices: choose how many "
            "to use, e.g. --set=train.mesh=1"
        )


def _start(together: Together, held: list[Held], preemption: Preemption) -> Groups:
    """All lanes at step 0, or the going ones at their last common step; fills in progress."""
    size = program.group_size(len(held), together.mesh, abstract(held[0].lane.run.create))
    for h in held:
        latest = h.checkpoints.latest()
        if latest is not None:
            meta = h.checkpoints.meta(latest)
            check_same(h.lane.run.workdir, meta, h.lane.run.meta)
            h.progress = Progress(**meta["progress"])
    going = [set(h.checkpoints.steps()) for h in held if h.goes]
    ended = [h.checkpoints.latest() or 0 for h in held]
    start = max(set.intersection(*going), default=None) if going else max(ended)
    if start is None:  # a stop before the first common step comes again
        for h in held:
            h.progress = Progress()
        keys = jnp.stack([jnp.asarray(lane.key) for lane in together.lanes])
        return preemption.wait_for(
            lambda: program.create(together.first, keys, size, together.mesh)
        )
    states = []
    for h in held:
        step = start if h.goes else h.checkpoints.latest()
        assert step is not None
        h.progress = Progress(**h.checkpoints.meta(step)["progress"])
        h.progress.keep_to(h.checkpoints.steps(), h.lane.run.train.monitor)
        states.append(h.checkpoints.restore(step, abstract(h.lane.run.create)))
    lost = [h.progress.skipped for h in held]
    cuts = [slice(n, n + size) for n in range(0, len(held), size)]
    return [program.stack(start, states[c], lost[c], together.mesh) for c in cuts]


def _train(
    together: Together,
    held: list[Held],
    groups: Groups,
    evaluate: Evaluate,
    whole: Journal,
    preemption: Preemption,
) -> Groups:
    run, mesh = held[0].lane.run, together.mesh
    step = int(groups[0].step)
    one = program.make_step(together.step_of, mesh, run.train.non_finite, program.in_turn())
    compiled: dict[Any, Any] = {}
    batches = prefetched(run.stream, step, run.total)
    knobs, told = _knobs(together, held, groups), [h.goes for h in held]
    pending: Any = None
    try:
        while True:
            if run.evaluates_at(step) or saves(run, step):
                _read(held, groups, step, pending, whole)
                pending = None
            for h in (h for h in held if h.goes):
                _look_or_save(h, groups, step, evaluate, whole)
            if step >= run.total or not any(h.goes for h in held):
                break
            preemption.check(step)
            if told != (told := [h.goes for h in held]):
                knobs = _knobs(together, held, groups)
            asked = time.perf_counter()
            batch = next(batches)
            for journal in (whole, *(h.journal for h in held if h.goes)):
                assert journal is not None
                journal.waited(time.perf_counter() - asked)
            placed = jax.device_put(batch, NamedSharding(mesh, program.WHOLE))
            key = tuple(sorted((k, v.shape) for k, v in batch.items()))
            if key not in compiled:
                logging.info("compiling for %d distinct items a shard", batch["items/id"].shape[-1])
                compiled[key] = preemption.wait_for(
                    lambda x=(groups[0], knobs[0], placed): (
                        jax.jit(one, donate_argnums=0).lower(*x).compile()
                    )  # type: ignore[misc]
                )
            stepped = [compiled[key](*x, placed) for x in zip(groups, knobs, strict=True)]
            groups, metrics = [g for g, _ in stepped], [m for _, m in stepped]
            step += 1
            _read(held, groups, step, pending, whole)
            pending = (step - 1, metrics, batch)
            whole.advance(step, run.stream.assembler.config.size * sum(told))
        _read(held, groups, step, pending, whole)
        _save_all(held, groups, step)
        return groups
    except Preempted:
        _read(held, groups, step, pending, whole)
        _save_all(held, groups, step)
        whole.event(step, "preempted")
        raise
    finally:
        close = getattr(batches, "close", None)
        if close:
            close()


def _look_or_save(h: Held, groups: Groups, step: int, evaluate: Evaluate, whole: Journal) -> None:
    """What is due for a lane after `step` steps and has not been done before an interruption."""
    run = h.lane.run
    assert h.journal is not None
    if run.evaluates_at(step) and h.progress.evaluated_at() != step:
        look(run, _own(h, groups), step, evaluate, h.progress, h.checkpoints, h.journal)
        if not h.goes:
            _tell(h, step, whole, f"no better {run.train.monitor}")
    elif saves(run, step) and h.checkpoints.latest() != step:
        save(run, _own(h, groups), step, h.progress, h.checkpoints)


def _read(held: list[Held], groups: Groups, step: int, pending: Any, whole: Journal) -> None:
    """Write down the metrics of the step before; `lanes` are at `step`, where a stop is saved."""
    if pending is None:
        return
    at, metrics, batch = pending
    found = jax.tree.map(lambda *x: np.concatenate(x), *fetch(metrics))
    lines: dict[str, dict[str, float]] = {}
    for h in held:
        own = {k: v[h.n] for k, v in found.items()}
        if not (h.goes and own.pop("go")):
            continue
        assert h.journal is not None
        h.journal.advance(at + 1, h.lane.run.stream.assembler.config.size)
        try:
            lines[h.lane.name] = note(h.lane.run, at, own, batch, h.sums, h.progress, h.journal)
        except UserError as error:
            h.progress.stopped = True
            _tell(h, at, whole, str(error))
            if h.checkpoints.latest() != step:
                save(h.lane.run, _own(h, groups), step, h.progress, h.checkpoints)
    losses = {f"loss/{name}": line["loss"] for name, line in lines.items() if line}
    if losses:
        whole.train(at + 1, {"loss": sum(losses.values()) / len(losses), **losses})


def _tell(h: Held, step: int, whole: Journal, why: str) -> None:
    """Say that a lane is stopped."""
    logging.warning("%s is stopped, the others go on: %s", h.lane.name, why)
    assert h.journal is not None
    h.journal.event(step, "stopped", why=why)
    whole.event(step, "stopped", lane=h.lane.name, why=why)


def _save_all(held: list[Held], groups: Groups, step: int) -> None:
    for h in held:
        if h.goes and step > 0 and h.checkpoints.latest() != step:
            save(h.lane.run, _own(h, groups), step, h.progress, h.checkpoints)
    for h in held:
        h.checkpoints.wait()


def _end(h: Held, groups: Groups) -> Outcome:
    assert h.journal is not None
    state = _own(h, groups)
    if not h.goes:  # the steps of the others are not its own
        state = dataclasses.replace(state, step=jnp.int32(h.checkpoints.latest() or 0))
    return Outcome(*kept(h.lane.run, state, h.progress, h.checkpoints, h.journal))


def _own(h: Held, groups: Groups) -> TrainState:
    """A lane's state, on the devices of its run."""
    group, n = divmod(h.n, len(groups[0].lost))
    own: TrainState = jax.device_put(program.take(groups[group], n), replicated(h.lane.run.mesh))
    return own


def _knobs(together: Together, held: list[Held], groups: Groups) -> list[Knobs]:
    """What each group is told."""
    rate, weights = [h.lane.rate for h in held], [h.lane.weights for h in held]
    go, size = [h.goes for h in held], len(groups[0].lost)
    cuts = [slice(n, n + size) for n in range(0, len(held), size)]
    return [program.tell(rate[c], weights[c], go[c], together.mesh) for c in cuts]
