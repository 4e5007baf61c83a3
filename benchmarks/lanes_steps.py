"""The worker that steps one run and many lanes of the same configuration.

`python -m benchmarks.lanes_steps`, started by `benchmarks.lanes`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peak import of_jax
from benchmarks.turns import serve
from experiments.lanes import Numbers, together_of
from mtl_jax.config import load
from mtl_jax.job import Job, open_job
from mtl_jax.train import lanes
from mtl_jax.train.mesh import put_batch

_jobs: list[Job] = []
_steps: dict[str, Callable[[int], float]] = {}


def open_config(config: str, changes: list[str], workdir: str) -> str:
    """Opens the configuration's job; the backend's name."""
    _jobs[:] = [open_job(load(config, changes), Path(workdir))]
    return jax.default_backend()


def prepare(name: str, how: str, count: int) -> float:
    """Compiles under `name` a step of one run ("run") or of `count` lanes; seconds of compiling.

    how: "run"; "turns" or "side by side", one group of all; "alone", every lane a call of its own.
    """
    (job,) = _jobs
    run_ = job.run()
    batch = put_batch(run_.mesh, run_.stream.batch(0))
    if how == "run":
        step: Any = jax.jit(run_.step, donate_argnums=0)
        states: list[Any] = [run_.create()]
        told: list[Any] = [()]
    else:
        c = job.config
        weights = tuple(t.weight for t in c.tasks)
        numbers = [Numbers(n, c.optim.learning_rate, weights) for n in range(count)]
        t = together_of(job, job.workdir, numbers, 1)
        keys = np.stack([lane.key for lane in t.lanes])
        size = 1 if how == "alone" else count
        states = lanes.create(t.first, jax.numpy.asarray(keys), size, t.mesh)
        rates = [n.rate for n in numbers]
        told = [
            (lanes.tell(rates[:size], [weights] * size, [True] * size, t.mesh),) for _ in states
        ]
        step = jax.jit(lanes.make_step(t.step_of, t.mesh, 0, how == "turns"), donate_argnums=0)
    began = time.perf_counter()
    compiled = step.lower(states[0], *told[0], batch).compile()
    took = time.perf_counter() - began

    def run_steps(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            for n, (state, knobs) in enumerate(zip(states, told, strict=True)):
                states[n], _ = compiled(state, *knobs, batch)
        jax.block_until_ready(states)
        return time.perf_counter() - began

    run_steps(2)
    _steps[name] = run_steps
    return took


def run(name: str, steps: int) -> float:
    """Seconds of so many steps (of all lanes)."""
    return _steps[name](steps)


if __name__ == "__main__":
    serve({"open": open_config, "prepare": prepare, "run": run, "peak": of_jax})
