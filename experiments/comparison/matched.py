"""Trunk widths with which the single-task models have, together, as many parameters as one model.

Counted are trunk and heads. Towers and embedding tables are in every model whole, and left out.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax

from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import count
from mtl_jax.job import Job
from mtl_jax.nn.config import ModelConfig

WIDEST = 64.0  # times the configured widths


@dataclass(frozen=True)
class Matched:
    """widths: of each twin's trunk.  wanted, found: parameters of the one model, of all twins."""

    widths: tuple[int, ...]
    wanted: int
    found: int


def head_parameters(job: Job, model: ModelConfig, tasks: Sequence[TaskSpec]) -> int:
    """Parameters of trunk and heads of a model for `tasks`; nothing is computed."""
    made = dataclasses.replace(job.model, config=model, tasks=tuple(tasks))
    batch = job.stream.batch(0)
    one = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
    shapes = jax.eval_shape(made.init, jax.random.PRNGKey(0), one, job.trainable_encoder)
    return count(shapes["heads"])


def match(job: Job, together: Config, alone: Config, tasks: Sequence[TaskSpec]) -> Matched | None:
    """Widths for the twins of `tasks` (model of `alone`), closest to the model of `together`.

    None where the trunk's widths change nothing.
    """
    own = {t.name: t for t in job.model.tasks}  # class weights are resolved there
    wanted = head_parameters(job, together.model, job.model.tasks)
    known: dict[tuple[int, ...], int] = {}

    def parameters(widths: tuple[int, ...]) -> int:
        if widths not in known:
            model = dataclasses.replace(alone.model, trunk_widths=widths)
            same: dict[object, int] = {}  # tasks of one shape are counted once
            total = 0
            for t in tasks:
                shape = (t.kind, t.level, t.size, t.how)
                if shape not in same:
                    same[shape] = head_parameters(job, model, (own[t.name],))
                total += same[shape]
            known[widths] = total
        return known[widths]

    start = alone.model.trunk_widths
    if parameters(start) == parameters(scaled(start, 2.0)):
        return None
    widths = closest(start, wanted, parameters)
    return Matched(widths, wanted, parameters(widths))


def closest(
    start: tuple[int, ...], wanted: int, parameters: Callable[[tuple[int, ...]], int]
) -> tuple[int, ...]:
    """`start` times one factor, rounded, whose number of parameters (rising) is closest."""
    low, high = 0.0, 1.0
    while parameters(scaled(start, high)) < wanted and high < WIDEST:
        low, high = high, 2 * high
    while scaled(start, low) != scaled(start, high) and high - low > 1 / (4 * max(start)):
        middle = (low + high) / 2
        if parameters(scaled(start, middle)) < wanted:
            low = middle
        else:
            high = middle
    both = (scaled(start, low), scaled(start, high))
    return min(both, key=lambda widths: abs(parameters(widths) - wanted))


def scaled(widths: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """Widths times a factor, each at least 1."""
    return tuple(max(1, round(factor * width)) for width in widths)
