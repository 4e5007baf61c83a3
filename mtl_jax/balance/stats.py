"""What balancers read (`Stats`) and return (`Update`)."""

from typing import Any, ClassVar, NamedTuple, Protocol

from mtl_jax.core.types import Array


class Stats(NamedTuple):
    """One step, as a balancer sees it; all float32. What it does not ask for may be None.

    losses:       [T], means over labelled rows, times the tasks' own weights where they have any.
    present:      [T], 1 where a task has labelled rows; other entries of an absent task are void.
    step:         [].
    gram:         G = J J' [T, T] of the task gradients J, or one per group of parameters
                  [groups, T, T], whose sum is G.
    cross_gram:   J1 J2' [T, T] of two independent batches (the halves of a batch).
    grads:        tree of task gradients, leaves [T, ...].
    losses_after: [T], the same batch after the update; None before it.
    """

    losses: Array
    present: Array
    step: Array
    gram: Array | None = None
    cross_gram: Array | None = None
    grads: Any = None
    losses_after: Array | None = None


class Update(NamedTuple):
    """weights [T] of the task gradients (0 for an absent task; [groups, T] if grouped), next state.

    info: values worth logging; "residual" [] where a problem was solved: relative, 0 is exact.
    direction: where a method's update is no weighted sum of this step's gradients, the update of
        `stats.grads` (their tree without the task axis); weights are then what parameters outside
        that tree get.
    """

    weights: Array
    state: Any
    info: dict[str, Array]
    direction: Any = None


class Balancer(Protocol):
    """Pure functions, inside jit, scan and vmap; options are fields of a frozen dataclass.

    needs:   "losses", "gram", "cross_gram", "grads" or "losses_after": what `update` reads beside
             losses, present and step.
    ahead:   the weights depend on the state and the key alone, not on this step's losses.
    """

    needs: ClassVar[str]
    ahead: ClassVar[bool]

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """The first state for `n_tasks` tasks; grads_like: a tree with the leaves' shapes, which a
        state in the shape of gradients needs."""

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights of this step and the next state."""
