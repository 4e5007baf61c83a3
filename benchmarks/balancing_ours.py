"""The worker that runs the project's own step, its solvers and its compiler.

`python -m benchmarks.balancing_ours`, started by `benchmarks.balancing`.
"""

import dataclasses
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.balancing_data import World, batches, tables, weights
from benchmarks.balancing_model import Recommender, capacity, model_of, nest, to_step
from benchmarks.peak import of_jax
from benchmarks.turns import serve
from mtl_jax import balance
from mtl_jax.core.types import Array
from mtl_jax.tasks.task import loss_sums
from mtl_jax.train import optimiser
from mtl_jax.train import state as states
from mtl_jax.train.config import BalanceConfig, OptimConfig
from mtl_jax.train.step import make_step
from mtl_jax.train.task_gradients import start

OPTIM = OptimConfig(name="adam", learning_rate=1e-4, schedule="constant", warmup=0, clip=0.0)


@dataclass
class Open:
    """A world and its one state, which all entries train in turn, each with a balancer's state."""

    world: World
    model: Recommender
    raw: list[Any]
    ready: list[Any]
    rows: dict[str, int]
    state: Any
    entries: dict[str, tuple[Callable[..., Any], Any]] = field(default_factory=dict)
    count: int = 0


_open: list[Open] = []


def open_world(tasks: int, rows: int) -> list[float]:
    """Makes the world; losses [T] of its first batch with the initial weights."""
    _open.clear()
    gc.collect()
    world = World(tasks, rows)
    model, raw = model_of(world), batches(world)
    space = capacity(raw)
    ready = [jax.device_put(to_step(b, world, space)) for b in raw]
    params = nest(weights(world))
    tx = optimiser.make(OPTIM, params, 1000)
    make = jax.jit(
        lambda p, t: states.create(
            p, t, tx, balance.get("ew"), tasks, jax.random.PRNGKey(0), BalanceConfig(name="ew")
        )
    )
    found = Open(world, model, raw, ready, space, make(params, tables(world)))
    _open.append(found)
    return _losses(found)


def _losses(o: Open) -> list[float]:
    def f(state: Any, batch: Any) -> Array:
        part = {k: v[0] for k, v in batch.items() if not k.startswith("uniq/")}
        rows = o.model.gather(state.tables, batch)
        rep = o.model.shared(state.params, rows, part, state.key, True)
        outputs = o.model.predict(state.params, rep, part, state.key, True)
        return loss_sums(o.model.tasks, outputs, part)[0] / o.world.batch

    return [float(x) for x in np.asarray(jax.jit(f)(o.state, o.ready[0]))]


def _step(
    o: Open, method: str, level: str, gram_every: int, heads: str
) -> tuple[Callable[..., Any], Any]:
    """The step, not yet compiled, and the balancer's first state."""
    where: Any = {"level": level, "heads": heads}
    config = BalanceConfig(name=method, gram_every=gram_every, **where)
    balancer = balance.get(method)
    tx = optimiser.make(OPTIM, o.state.params, 1000)
    rate = optimiser.schedule(OPTIM, 1000)
    step = make_step(o.model, balancer, tx, rate, OPTIM, config)
    first = start(balancer, config, o.state.params, tuple(o.state.tables), o.world.tasks)
    return jax.jit(step, donate_argnums=0), first


def prepare(
    name: str, method: str, level: str = "representation", gram_every: int = 1, heads: str = "unit"
) -> float:
    """Compiles a step of the open world under a name; seconds of tracing and compiling."""
    (o,) = _open
    began = time.perf_counter()
    step, first = _step(o, method, level, gram_every, heads)
    state = dataclasses.replace(o.state, balancer=first)
    compiled = step.lower(state, o.ready[0]).compile()  # type: ignore[attr-defined]
    took = time.perf_counter() - began
    o.entries[name] = (compiled, first)
    run(name, 2)
    return took


def run(name: str, steps: int, loader: bool = False) -> float:
    """Seconds of so many steps; `loader`: with the host's search for the batch's distinct rows."""
    (o,) = _open
    compiled, own = o.entries[name]
    state = dataclasses.replace(o.state, balancer=own)
    began = time.perf_counter()
    for _ in range(steps):
        n = o.count % len(o.raw)
        batch = to_step(o.raw[n], o.world, o.rows) if loader else o.ready[n]
        state, metrics = compiled(state, batch)
        o.count += 1
    jax.block_until_ready((state, metrics))
    took = time.perf_counter() - began
    o.state, o.entries[name] = state, (compiled, state.balancer)
    return took


def compile_only(tasks: int, method: str, level: str) -> float:
    """Seconds of tracing and compiling a small world's step: only T matters here."""
    open_world(tasks, 20_000)
    (o,) = _open
    jax.clear_caches()
    began = time.perf_counter()
    step, first = _step(o, method, level, 1, "unit")
    state = dataclasses.replace(o.state, balancer=first)
    step.lower(state, o.ready[0]).compile()  # type: ignore[attr-defined]
    return time.perf_counter() - began


def gram_methods() -> list[str]:
    """Balancers whose weights are a function of the Gramian."""
    return [name for name, needs in balance.NAMES.items() if needs == "gram"]


def solver(method: str, tasks: int, updates: int = 200) -> float:
    """Seconds of one `update` on a random Gramian, in a compiled loop, each fed by the last."""
    balancer = balance.get(method)
    J = np.random.default_rng(tasks).standard_normal((tasks, 256)).astype(np.float32)
    J += 0.05 * J[::-1].cumsum(0)
    gram, ones = jnp.asarray(J @ J.T), jnp.ones(tasks)

    def many(G: Array) -> Array:
        def one(carry: Any, n: Array) -> tuple[Any, None]:
            state, last = carry
            stats = balance.Stats(ones, ones, n, G + 1e-9 * last.sum())
            update = balancer.update(stats, state, jax.random.fold_in(jax.random.PRNGKey(0), n))
            mean = update.weights if update.weights.ndim == 1 else update.weights.mean(0)
            return (update.state, mean), None

        return jax.lax.scan(one, (balancer.init(tasks), ones), jnp.arange(updates))[0][1]

    compiled = jax.jit(many)
    compiled(gram).block_until_ready()
    began = time.perf_counter()
    compiled(gram).block_until_ready()
    return (time.perf_counter() - began) / updates


if __name__ == "__main__":
    serve(
        {
            "open": open_world,
            "prepare": prepare,
            "run": run,
            "compile": compile_only,
            "gram_methods": gram_methods,
            "solver": solver,
            "peak": of_jax,
        }
    )
