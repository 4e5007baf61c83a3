"""Mean losses of epochs: what DWA, GradNorm and STCH remember of the past."""

from typing import Any

import jax.numpy as jnp

from mtl_jax.balance.stats import Stats
from mtl_jax.core.types import Array


def start(n_tasks: int) -> dict[str, Array]:
    """No epoch has begun."""
    zeros = jnp.zeros((n_tasks,), jnp.float32)
    return {"step": jnp.zeros((), jnp.int32), "sum": zeros, "count": zeros}


def means(state: dict[str, Array]) -> tuple[Array, Array]:
    """(means [T] of the epoch under way, 0 where there is nothing; whether there is one [T])."""
    return state["sum"] / jnp.maximum(state["count"], 1.0), state["count"] > 0


def ended(state: dict[str, Array], steps_per_epoch: int) -> Array:
    """Whether the epoch of `state` is over [], that is, this step begins a new one."""
    return (state["step"] % steps_per_epoch == 0) & (state["step"] > 0)


def add(state: dict[str, Array], stats: Stats, steps_per_epoch: int) -> dict[str, Any]:
    """The state after this step's losses; a new epoch starts from nothing."""
    old = 1.0 - ended(state, steps_per_epoch).astype(jnp.float32)
    losses = jnp.where(stats.present > 0, stats.losses, 0.0)
    return {
        "step": state["step"] + 1,
        "sum": state["sum"] * old + losses,
        "count": state["count"] * old + stats.present,
    }
