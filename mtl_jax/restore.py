"""A trained run, opened again from its working folder alone."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from mtl_jax.config import Config, from_dict
from mtl_jax.core.errors import UserError
from mtl_jax.job import Job, open_job
from mtl_jax.train.checkpoint import Checkpoints
from mtl_jax.train.loop import Progress, abstract
from mtl_jax.train.mesh import axis_sizes
from mtl_jax.train.state import TrainState


@dataclass(frozen=True)
class Trained:
    """A job and the state of the step that training kept."""

    job: Job
    state: TrainState
    step: int


def open_trained(workdir: Path, step: int | None = None, mesh: int | str | None = None) -> Trained:
    """The best step of a run (by its monitor, else the last one), or `step`. Only reads.

    Where that one is damaged, the best (else the last) of the whole ones, with a warning; on the
    devices that are here, whatever it was trained on, or on those that `mesh` names.

    Raises UserError: no whole checkpoint, no such step, a damaged `step`, prepared data that is not
    the one trained on.
    """
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir={workdir}: no checkpoints there; run train first")
    with Checkpoints(workdir, owner=False) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            raise UserError(f"--workdir={workdir}: no whole checkpoint there; run train first")
        meta = checkpoints.meta(latest)
        config = from_dict(meta["config"])
        wanted = step if step is not None else _kept(meta, config, checkpoints.steps())
        if wanted in checkpoints.damaged:
            raise UserError(
                f"--step={wanted} is damaged ({checkpoints.damaged[wanted]}): there are whole "
                f"steps {checkpoints.steps()}"
            )
        if wanted not in checkpoints.steps():
            raise UserError(f"--step={wanted}: there are steps {checkpoints.steps()}")
        job = open_job(_placed_here(config, mesh), workdir)
        if job.data.digest != meta["data"]:
            raise UserError(
                f"{job.data.folder} is not the data that {workdir} was trained on: prepare it "
                "again with the same configuration, or train again"
            )
        return Trained(job, checkpoints.restore(wanted, abstract(job.run().create)), wanted)


def _kept(meta: dict[str, Any], config: Config, steps: list[int]) -> int:
    progress = Progress(**meta["progress"])
    progress.keep_to(steps, config.train.monitor)
    return progress.best_step if progress.best_step >= 0 else max(steps)


def _placed_here(config: Config, mesh: int | str | None) -> Config:
    if mesh is None:
        try:
            axis_sizes(config.train.mesh, jax.device_count())
            mesh = config.train.mesh
        except UserError:
            mesh = 0
    return dataclasses.replace(
        config,
        batch=dataclasses.replace(config.batch, shards=0),
        train=dataclasses.replace(config.train, mesh=mesh),
    )
