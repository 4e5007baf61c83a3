"""The worker that runs the project's own step on one embedding table, and the bare floor.

`python -m benchmarks.embedding_ours`, started by `benchmarks.embedding`.
"""

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.embedding_data import WIDTH, HostArray, World, batches, table, weights
from benchmarks.peak import of_jax
from benchmarks.turns import serve
from mtl_jax import balance
from mtl_jax.core.pieces import give_back_pieces
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch, Params
from mtl_jax.data.batch import distinct, local, padded_rows
from mtl_jax.nn.config import ModelConfig
from mtl_jax.tasks.task import loss_sums
from mtl_jax.train import optimiser
from mtl_jax.train import state as states
from mtl_jax.train.config import BalanceConfig, OptimConfig
from mtl_jax.train.step import make_step

OPTIM = OptimConfig(name="adam", learning_rate=1e-4, schedule="constant", warmup=0, clip=0.0)
BALANCE = BalanceConfig(name="ew")


@dataclass(frozen=True)
class Mean:
    """What `mtl_jax.train.step` needs of a model: the mean of a row's look-ups, two layers."""

    tasks: tuple[TaskSpec, ...] = (TaskSpec("click", "binary", "click"),)
    config: ModelConfig = field(default_factory=lambda: ModelConfig(width=WIDTH))

    def gather(self, tables: Params, batch: Batch) -> dict[str, Array]:
        """Distinct rows [R, 64]."""
        at = batch["uniq/user"].reshape(-1)
        return {"user": tables["user"].at[at].get(mode="fill", fill_value=0)}

    def shared(
        self, params: Params, rows: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> dict[str, Array]:
        """z [S, B, 64]."""
        return {"z": jnp.take(rows["user"], batch["user"], axis=0, mode="clip").mean(-2)}

    def predict(
        self, params: Params, rep: Mapping[str, Array], batch: Batch, key: Array, train: bool
    ) -> dict[str, Array]:
        """A logit [S, B]."""
        w = params["heads"]
        x = jax.nn.relu(rep["z"] @ w["0/kernel"] + w["0/bias"])
        return {"click": (x @ w["1/kernel"] + w["1/bias"])[..., 0]}


MODEL = Mean()


@dataclass
class Open:
    """A world, its state and its compiled programs, which all work on the same three arrays."""

    world: World
    raw: list[dict[str, HostArray]]
    ready: list[Any]
    state: Any
    programs: dict[str, Callable[..., Any]] = field(default_factory=dict)
    count: int = 0


_worlds: dict[int, Open] = {}


def to_step(batch: dict[str, HostArray], world: World) -> dict[str, HostArray]:
    """What the loader gives: the distinct rows, found on the host, and indices into them."""
    ids = batch["ids"].astype(np.int32)
    found = distinct(ids)
    rows = padded_rows(found, world.distinct, world.rows)
    label = batch["label"][None, None]
    return {
        "user": local(found, ids)[None, None],
        "uniq/user": rows[None],
        "label/click": label,
        "mask/click": np.ones_like(label),
    }


def open_world(**shape: int) -> float:
    """Makes a world beside those that are open; loss of its first batch."""
    world = World(**shape)
    raw = batches(world)
    ready = [jax.device_put(to_step(b, world)) for b in raw]
    params = {"heads": {k: jnp.asarray(v) for k, v in weights().items()}}
    tx = optimiser.make(OPTIM, params, 1000)
    make = jax.jit(
        lambda p, t: states.create(
            p, {"user": t}, tx, balance.get("ew"), 1, jax.random.PRNGKey(0), BALANCE
        ),
        donate_argnums=1,
    )
    found = Open(world, raw, ready, make(params, table(world)))
    _worlds[world.rows] = found

    def f(state: Any, batch: Any) -> Array:
        rep = MODEL.shared(params, MODEL.gather(state.tables, batch), batch, state.key, True)
        outputs = MODEL.predict(params, rep, batch, state.key, True)
        return loss_sums(MODEL.tasks, outputs, batch)[0].sum() / world.batch

    return float(jax.jit(f)(found.state, ready[0]))


def close_world(rows: int) -> None:
    """Lets go of a world."""
    _worlds.pop(rows, None)
    gc.collect()


def prepare(rows: int, what: str) -> dict[str, float]:
    """Compiles "adam", "adagrad" or "floor"; MB of temporaries and MB that are updated in place."""
    o = _worlds[rows]
    program: Callable[..., Any] = floor
    if what != "floor":
        optim = dataclasses.replace(
            OPTIM, table_optimiser="adagrad" if what == "adagrad" else "adam"
        )
        tx = optimiser.make(optim, o.state.params, 1000)
        rate = optimiser.schedule(optim, 1000)
        program = make_step(MODEL, balance.get("ew"), tx, rate, optim, BALANCE)
    given, _ = _given(o, what)
    compiled = jax.jit(program, donate_argnums=0).lower(given, o.ready[0]).compile()
    o.programs[what] = compiled
    give_back_pieces()
    del given
    run(rows, what, 2)
    told: Any = compiled.memory_analysis()
    return {"temporary": told.temp_size_in_bytes / 1e6, "in_place": told.alias_size_in_bytes / 1e6}


def floor(state: list[Array], batch: Batch) -> tuple[list[Array], None]:
    """The least a step must do to the tables: read the distinct rows of all three, write them."""
    at = batch["uniq/user"].reshape(-1)
    out = []
    for x in state:
        rows = x.at[at].get(mode="fill", fill_value=0)
        out.append(x.at[at].set(1.0001 * rows, unique_indices=True, mode="drop"))
    return out, None


def _given(o: Open, what: str) -> tuple[Any, dict[str, Array]]:
    """The world's three arrays as the program takes them, and those that it leaves alone.

    Adagrad's sums are Adam's second moments: what they hold is not the question here.
    """
    values, moments = o.state.tables["user"], o.state.table_opt["user"]
    if what == "floor":
        return [values, moments["mu"], moments["nu"]], {}
    if what == "adagrad":
        opt = {"user": {"sum": moments["nu"]}}
        return dataclasses.replace(o.state, table_opt=opt), {"mu": moments["mu"]}
    return o.state, {}


def _taken(o: Open, what: str, state: Any, rest: dict[str, Array]) -> Any:
    """The world's state again."""
    if what == "floor":
        values, mu, nu = state
        opt = {"user": {"mu": mu, "nu": nu}}
        return dataclasses.replace(o.state, tables={"user": values}, table_opt=opt)
    if what == "adagrad":
        opt = {"user": {**rest, "nu": state.table_opt["user"]["sum"]}}
        return dataclasses.replace(state, table_opt=opt)
    return state


def run(rows: int, what: str, steps: int, loader: bool = False) -> float:
    """Seconds of so many steps; `loader`: with the host's search for the batch's distinct rows."""
    o = _worlds[rows]
    state, rest = _given(o, what)
    began = time.perf_counter()
    for _ in range(steps):
        n = o.count % len(o.raw)
        batch = to_step(o.raw[n], o.world) if loader else o.ready[n]
        state, told = o.programs[what](state, batch)
        o.count += 1
    jax.block_until_ready((state, told))
    took = time.perf_counter() - began
    o.state = _taken(o, what, state, rest)
    return took


if __name__ == "__main__":
    serve(
        {
            "open": open_world,
            "close": close_world,
            "prepare": prepare,
            "run": run,
            "peak": of_jax,
        }
    )
