"""What balancers read (`Stats`) and return (`Update`)."""

from typing import Any, NamedTuple, Protocol

from mtl_jax.core.types import Array


class Stats(NamedTuple):
    """losses [T] (means over labelled rows), present [T] (1 where a task has rows), step []."""

    losses: Array
    present: Array
    step: Array


class Update(NamedTuple):
    """weights [T] (0 for an absent task), the next state, and values [..] worth logging."""

    weights: Array
    state: Any
    info: dict[str, Array]


class Balancer(Protocol):
    """Pure: `init(T) -> state`, `update(stats, state, key) -> Update`; inside jit and vmap."""

    def init(self, n_tasks: int) -> Any:
        """The first state for `n_tasks` tasks."""

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights of this step and the next state."""
