"""Many trainings of one model as one program: lanes.

Lanes differ in numbers only (keys, learning rate, task weights) and see the same batches. A lane is
what a run of its own would be: the same step, mapped over a leading axis N of the state. Lanes that
the program takes in one call are a group.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mtl_jax.core.types import Array, Batch
from mtl_jax.train.state import TrainState
from mtl_jax.train.step import Metrics, Step

FirstOf = Callable[[Array], TrainState]  # key -> state of step 0
StepOf = Callable[[Array, Array, Array], Step]  # rate [], weights [T], go [] -> a lane's step
LARGE = 16 * 2**20  # bytes of a state
LANES, WHOLE = PartitionSpec("data"), PartitionSpec()  # over the mesh's devices, or on each


@jax.tree_util.register_dataclass
@dataclass
class Knobs:
    """What lanes are told: learning rates [N], task weights [N, T], go [N] (False: stopped)."""

    rate: Array
    weights: Array
    go: Array


@jax.tree_util.register_dataclass
@dataclass
class Lanes:
    """What a group's step reads and writes: its number [], states [N, ...] without one, lost [N].

    lost: updates that were not finite and so not applied.
    """

    step: Array
    state: TrainState
    lost: Array


PLACES = Lanes(WHOLE, LANES, LANES)  # type: ignore[arg-type]


def in_turn() -> bool:
    """Whether the lanes of a group take turns (a loop) or go side by side (vmap).

    A GPU is idle in the small arrays of one lane, and fills with those of all. A CPU is busy with
    one: batched products, gathers and scatters take longer there than the loop, out of which XLA
    also takes all that depends on the batch alone (benchmarks/lanes.py).
    """
    return jax.default_backend() == "cpu"


def group_size(lanes: int, mesh: Mesh, state: TrainState) -> int:
    """How many lanes make a group, for (shapes of) the state of one: all, or one for each device.

    A loop copies every lane's state twice a step. Where the state is so large that this would cost
    more than it saves, each lane is a call of its own, and of tables only the batch's rows are
    touched.
    """
    large = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) > LARGE
    return mesh.size if in_turn() and large else lanes


def create(first: FirstOf, keys: Array, size: int, mesh: Mesh) -> list[Lanes]:
    """All lanes at step 0, in groups of `size`; keys [N, 2]."""

    def make(keys: Array) -> Lanes:
        states = jax.lax.map(first, keys)
        return Lanes(states.step[0], _stepless(states), jnp.zeros(len(keys), jnp.int32))

    # Runs once: compiling it well would cost more than it gives.
    fast = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(make, out_shardings=places(mesh), compiler_options=fast)
    return [compiled(keys[n : n + size]) for n in range(0, len(keys), size)]


def make_step(
    step_of: StepOf, mesh: Mesh, allowed: int, turns: bool
) -> Callable[[Lanes, Knobs, Batch], tuple[Lanes, Metrics]]:
    """`step(lanes, knobs, batch) -> (lanes, metrics [N, ...])`, pure; jit it with lanes donated.

    allowed: non-finite updates of a lane that are skipped; after one more the lane is left as it
    is. turns: see `in_turn`. A device of the mesh has N / devices lanes and the whole batch.
    metrics["go"]: whether a lane still went.
    """

    def local(lanes: Lanes, knobs: Knobs, batch: Batch) -> tuple[Lanes, Metrics]:
        def one(x: tuple[TrainState, Array, Knobs]) -> Any:
            state, lost, knob = x
            go = knob.go & (lost <= allowed)
            step = step_of(knob.rate, knob.weights, go)
            # All lanes are at one step: it stays a scalar, so that what is done every so many
            # steps (balance.gram_every) stays a branch.
            state, metrics = step(dataclasses.replace(state, step=lanes.step), batch)
            return _stepless(state), lost + (go & ~metrics["finite"]), {**metrics, "go": go}

        state, lost, metrics = _mapped(one, (lanes.state, lanes.lost, knobs), turns)
        return Lanes(lanes.step + 1, state, lost), metrics

    return jax.shard_map(
        local, mesh=mesh, in_specs=(PLACES, LANES, WHOLE), out_specs=(PLACES, LANES),
        check_vma=False,
    )  # fmt: skip


def _mapped(f: Callable[[Any], Any], x: Any, turns: bool) -> Any:
    """f over the leading axis of x; a single one is run as it is."""
    if len(jax.tree.leaves(x)[0]) == 1:
        return jax.tree.map(lambda y: y[None], f(jax.tree.map(lambda y: y[0], x)))
    return jax.lax.map(f, x) if turns else jax.vmap(f)(x)


def places(mesh: Mesh) -> Any:
    """Shardings of Lanes, as a prefix of the tree."""
    lanes, whole = NamedSharding(mesh, LANES), NamedSharding(mesh, WHOLE)
    return Lanes(whole, lanes, lanes)  # type: ignore[arg-type]


def stack(step: int, states: Sequence[TrainState], lost: Sequence[int], mesh: Mesh) -> Lanes:
    """A group at `step` of N states."""
    joined = jax.tree.map(lambda *x: jnp.stack(x), *map(_stepless, states))
    lanes = Lanes(jnp.int32(step), joined, jnp.asarray(lost, jnp.int32))
    found: Lanes = jax.device_put(lanes, places(mesh))
    return found


def tell(
    rates: Sequence[float], weights: Sequence[Sequence[float]], go: Sequence[bool], mesh: Mesh
) -> Knobs:
    """What the lanes of a group are told, on its devices."""
    knobs = Knobs(jnp.asarray(rates), jnp.asarray(weights), jnp.asarray(go))
    placed: Knobs = jax.device_put(knobs, NamedSharding(mesh, LANES))
    return placed


@jax.jit
def take(lanes: Lanes, n: Array) -> TrainState:
    """The state of a group's lane n, as a run of its own has it."""
    state = jax.tree.map(lambda x: x[n], lanes.state)
    return dataclasses.replace(state, step=lanes.step)


def _stepless(state: TrainState) -> TrainState:
    return dataclasses.replace(state, step=None)  # type: ignore[arg-type]
