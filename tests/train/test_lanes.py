"""The program of lanes, on a model of two lines: each lane is its own run."""

import dataclasses
import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import TASKS, USERS, WIDTH, Linear, make_batch

from mtl_jax import balance
from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import path_of
from mtl_jax.job import weighed
from mtl_jax.train import lanes, optimiser
from mtl_jax.train import state as states
from mtl_jax.train.config import BalanceConfig, OptimConfig
from mtl_jax.train.lanes_loop import check_devices
from mtl_jax.train.mesh import make_mesh
from mtl_jax.train.step import make_step

pytestmark = pytest.mark.usefixtures("quick_compilation")
STEPS = 20
OPTIM = OptimConfig(warmup=3, table_decay=0.1)
MODEL = Linear(noise=0.3)
SEEDS, RATES = (3, 4, 3), (1e-2, 1e-2, 3e-2)
WEIGHTS = ((1.0, 1.0), (1.0, 1.0), (2.0, 0.5))


def first_of(balancer, optim):
    def first(key):
        w, u = (jax.random.normal(jax.random.fold_in(key, n), (d, 2)) for n, d in PARTS)
        tx = optimiser.make(optim, {"heads": {"w": w}}, STEPS)
        return states.create({"heads": {"w": w}}, {"user": u}, tx, balancer, len(TASKS), key)

    return first


HOW = {"alone": (1, True), "in turn": (3, True), "side by side": (3, False)}  # size of a group
PARTS = ((0, WIDTH), (1, USERS))
SHAPES = {"heads": {"w": jax.ShapeDtypeStruct((WIDTH, 2), jnp.float32)}}


def step_of(name, optim, balancer, alpha, go=True):
    tx, rate = optimiser.make(optim, SHAPES, STEPS), optimiser.schedule(optim, STEPS)
    return make_step(MODEL, balancer, tx, rate, optim, BalanceConfig(name=name), alpha, go)


@cache
def alone(name, n, steps=STEPS):
    """Losses [steps, T] and the last state of a plain run with the numbers of lane n."""
    optim = dataclasses.replace(OPTIM, learning_rate=RATES[n])
    options = {"weights": WEIGHTS[n]} if "weights" in balance.options(name) else {}
    balancer = balance.get(name, **options)
    step = jax.jit(step_of(name, optim, balancer, () if options else WEIGHTS[n]))
    state, losses = jax.jit(first_of(balancer, optim))(jax.random.PRNGKey(SEEDS[n])), []
    for k in range(steps):
        state, metrics = step(state, make_batch(k))
        losses.append(metrics["loss_sum"] / metrics["count"])
    return np.asarray(losses), state


@cache
def program(name, size, turns=True, devices=1):
    """(groups at step 0, what they are told, the compiled step)."""
    balancer, mesh = balance.get(name), make_mesh(devices)

    def lane(rate, weights, go):
        optim = dataclasses.replace(OPTIM, learning_rate=rate)
        return step_of(name, optim, *weighed(balancer, (), weights), go)

    keys = jnp.stack([jax.random.PRNGKey(s) for s in SEEDS])
    groups = lanes.create(first_of(balancer, OPTIM), keys, size, mesh)
    cuts = [slice(n, n + size) for n in range(0, len(SEEDS), size)]
    told = [lanes.tell(RATES[c], WEIGHTS[c], [True] * size, mesh) for c in cuts]
    return groups, told, jax.jit(lanes.make_step(lane, mesh, 0, turns))


def advance(step, groups, told, batch):
    stepped = [step(*x, batch) for x in zip(groups, told, strict=True)]
    metrics = jax.tree.map(lambda *x: np.concatenate(x), *(m for _, m in stepped))
    return [g for g, _ in stepped], metrics


def together(name, size, turns, devices=1):
    """Losses [steps, N, T] and every lane's state."""
    groups, told, step = program(name, size, turns, devices)
    for x in jax.tree.leaves((groups[0].state, told[0])):
        assert [y.data.shape[0] for y in x.addressable_shards] == [size // devices] * devices
    losses = []
    for k in range(STEPS):
        groups, metrics = advance(step, groups, told, make_batch(k))
        losses.append(metrics["loss_sum"] / metrics["count"])
    return np.asarray(losses), [lanes.take(g, n) for g in groups for n in range(size)]


def same(a, b, tolerance=1e-5):
    pairs = zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True)
    for (path, x), y in pairs:
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance, err_msg=path_of(path))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("ew", how) for how in HOW),
        ("uw", "in turn"),
        ("nash", "side by side"),
        *(pytest.param("uw", how, marks=pytest.mark.soak) for how in ("alone", "side by side")),
        *(pytest.param("nash", how, marks=pytest.mark.soak) for how in ("alone", "in turn")),
    ],
)
def test_each_lane_is_its_own_run(name, how):
    losses, found = together(name, *HOW[how])
    for n in range(len(SEEDS)):
        wanted, state = alone(name, n)
        np.testing.assert_allclose(losses[:, n], wanted, rtol=0, atol=1e-5)
        same(state, found[n])
    assert np.ptp(losses[-1], axis=0).min() > 1e-2, "the lanes differ"


@pytest.mark.parametrize("how", list(HOW))
def test_a_lane_that_is_not_finite_stays_as_it_is_and_the_others_go_on(how):
    size = HOW[how][0]
    groups, told, step = program("ew", *HOW[how])
    broken = 2
    group, n = divmod(broken, size)
    params = groups[group].state.params
    bad = jax.tree.map(lambda w: w.at[n].set(jnp.nan), params)
    start = dataclasses.replace(groups[group].state, params=bad)
    groups = list(groups)
    groups[group] = dataclasses.replace(groups[group], state=start)
    before = lanes.take(groups[group], n)
    for k in range(4):
        groups, metrics = advance(step, groups, told, make_batch(k))
        np.testing.assert_array_equal(metrics["finite"], [True, True, False])
        np.testing.assert_array_equal(metrics["go"], [True, True, k == 0])
    for n in (0, 1):
        _, wanted = alone("ew", n, 4)
        same(wanted, lanes.take(groups[n // size], n % size))
    after = lanes.take(groups[group], broken % size)
    same(dataclasses.replace(before, step=after.step), after, 0)


def test_a_lane_that_is_told_to_stop_does_not_move():
    groups, told, step = program("ew", 3)
    knobs = dataclasses.replace(told[0], go=jnp.array([True, False, True]))
    after, metrics = step(groups[0], knobs, make_batch())
    np.testing.assert_array_equal(metrics["go"], [True, False, True])
    before = lanes.take(groups[0], 1)
    same(dataclasses.replace(before, step=jnp.int32(1)), lanes.take(after, 1), 0)
    assert not np.array_equal(after.state.params["heads"]["w"][0], before.params["heads"]["w"])


def test_lanes_spread_over_devices_are_the_same(zygote, tmp_path):
    found = tmp_path / "found.json"
    flags = "--xla_force_host_platform_device_count=3"
    process = zygote.run("lane_devices", str(found), xla_flags=flags)
    assert process.status == 0, process.output()[-4000:]
    told = json.loads(found.read_text())
    assert max(told["losses"], told["state"]) < 1e-5
    assert told["moved"] > 0.1


def test_lanes_that_do_not_spread_evenly_are_refused():
    check_devices(4, 2)
    with pytest.raises(UserError, match=r"3 lanes .* over 2 devices.*--set=train\.mesh=1"):
        check_devices(3, 2)
