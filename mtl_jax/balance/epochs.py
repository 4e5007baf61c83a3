"""Mean losses of epochs, task by task: what DWA, GradNorm and STCH remember of the past.

A task's sums are those of the last epoch in which it was present; they give way when it is present
in a later one, so that an absent task's memory stays as it is.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from mtl_jax.balance.stats import Stats
from mtl_jax.core.types import Array


def epoch_of(stats: Stats, steps_per_epoch: int) -> Array:
    """The epoch of this step []."""
    return stats.step // steps_per_epoch


class Epochs(NamedTuple):
    """Of each task [T]: total and number of losses, and their epoch."""

    total: Array
    number: Array
    epoch: Array

    def mean(self) -> Array:
        """Mean loss [T] of the epoch remembered; 0 where there is none."""
        return self.total / jnp.maximum(self.number, 1.0)

    def over(self, stats: Stats, steps_per_epoch: int) -> Array:
        """Whether a present task's remembered epoch is over [T]: `mean` is its mean."""
        earlier = self.epoch < epoch_of(stats, steps_per_epoch)
        return (stats.present > 0) & earlier & (self.number > 0)

    def add(self, stats: Stats, steps_per_epoch: int) -> "Epochs":
        """After this step's losses."""
        there = stats.present > 0
        goes_on = jnp.where(self.over(stats, steps_per_epoch), 0.0, 1.0)
        return Epochs(
            jnp.where(there, self.total * goes_on + stats.losses, self.total),
            jnp.where(there, self.number * goes_on + 1.0, self.number),
            jnp.where(there, epoch_of(stats, steps_per_epoch), self.epoch),
        )


def start(n_tasks: int) -> Any:
    """No epoch has begun."""
    total, number = jnp.zeros((2, n_tasks), jnp.float32)
    return Epochs(total, number, jnp.zeros((n_tasks,), jnp.int32))
