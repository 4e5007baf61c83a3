"""A trained run, opened again from its working folder alone."""

from dataclasses import dataclass
from pathlib import Path

from mtl_jax.config import from_dict
from mtl_jax.core.errors import UserError
from mtl_jax.job import Job, open_job
from mtl_jax.train.checkpoint import Checkpoints
from mtl_jax.train.loop import abstract
from mtl_jax.train.state import TrainState


@dataclass(frozen=True)
class Trained:
    """A job and the state of the step that training kept."""

    job: Job
    state: TrainState
    step: int


def open_trained(workdir: Path, step: int | None = None) -> Trained:
    """The best step of a run (by its monitor, else the last one), or `step`.

    Raises UserError: no checkpoint, no such step, prepared data that is not the one trained on.
    """
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir={workdir}: no checkpoints there; run train first")
    checkpoints = Checkpoints(workdir)
    try:
        latest = checkpoints.latest()
        if latest is None:
            raise UserError(f"--workdir={workdir}: no whole checkpoint there; run train first")
        meta = checkpoints.meta(latest)
        best = meta["progress"]["best_step"]
        wanted = step if step is not None else (best if best >= 0 else latest)
        if wanted not in checkpoints.steps():
            raise UserError(f"--step={wanted}: there are steps {checkpoints.steps()}")
        job = open_job(from_dict(meta["config"]), workdir)
        if job.data.digest != meta["data"]:
            raise UserError(
                f"{job.data.folder} is not the data that {workdir} was trained on: prepare it "
                "again with the same configuration, or train again"
            )
        return Trained(job, checkpoints.restore(wanted, abstract(job.run().create)), wanted)
    finally:
        checkpoints.close()
