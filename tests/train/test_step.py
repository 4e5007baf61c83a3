"""The step on a model of two lines: weights, clipping, accumulation, non-finite updates."""

import dataclasses
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import balance
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train import state as states
from mtl_jax.train.config import OptimConfig
from mtl_jax.train.step import make_step

pytestmark = pytest.mark.usefixtures("quick_compilation")
TASKS = (TaskSpec("click", "binary", "click"), TaskSpec("rating", "regression", "rating"))
USERS, WIDTH = 9, 3
OPTIM = OptimConfig(learning_rate=0.1, clip=0.0)
RATE = optax.constant_schedule(0.1)
CONFIG = ModelConfig(width=2)


@dataclass(frozen=True)
class Linear:
    """outputs = x W[:, task] + u[user] . 1, noise from the key where `noise`."""

    tasks: tuple[TaskSpec, ...] = TASKS
    noise: float = 0.0
    config: ModelConfig = CONFIG

    def gather(self, tables, batch):
        at = batch["uniq/user"].reshape(-1)
        return {"user": tables["user"].at[at].get(mode="fill", fill_value=0)}

    def shared(self, params, rows, batch, key, train):
        u = jnp.take(rows["user"], batch["user"], axis=0).sum(-1, keepdims=True)
        return {"x": batch["x"], "u": u + self.noise * jax.random.normal(key, ())}

    def predict(self, params, rep, batch, key, train):
        y = rep["x"] @ params["heads"]["w"] + rep["u"]
        return {t.name: y[..., n] for n, t in enumerate(self.tasks)}


def make_batch(seed=0, slices=1, rows=8):
    rng = np.random.default_rng(seed)
    shape = (slices, 1, rows // slices)
    ids = np.sort(rng.choice(USERS, 4, replace=False))
    batch = {
        "x": rng.normal(size=(*shape, WIDTH)),
        "user": rng.integers(0, 4, shape),
        "uniq/user": np.array([[*ids, USERS, USERS]]),
        "label/click": rng.integers(0, 2, shape),
        "mask/click": rng.random(shape) < 0.7,
        "label/rating": rng.normal(3, 1, shape),
        "mask/rating": rng.random(shape) < 0.7,
    }
    ids = {k for k in batch if k.endswith("user")}
    return {k: v.astype(np.int32 if k in ids else np.float32) for k, v in batch.items()}


def start(balancer, tx):
    rng = np.random.default_rng(7)
    params = {"heads": {"w": jnp.asarray(rng.normal(size=(WIDTH, 2)), jnp.float32)}}
    tables = {"user": jnp.asarray(rng.normal(size=(USERS, 2)), jnp.float32)}
    return states.create(params, tables, tx, balancer, 2, jax.random.PRNGKey(3))


@cache
def build(optim=OPTIM, name="fixed", weights=(1.0, 1.0), noise=0.0, optimiser="adam"):
    balancer = balance.get(name, weights=weights)
    tx = {"adam": optax.adam(0.1), "sgd": optax.sgd(1.0)}[optimiser]
    step = jax.jit(make_step(Linear(noise=noise), balancer, tx, RATE, optim))
    return step, jax.jit(lambda: start(balancer, tx))()


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def without_step(state):
    return dataclasses.replace(state, step=0)


def test_gradient_is_the_weighted_sum_of_means_over_labelled_rows():
    weights = (0.5, 2.0)
    step, state = build(weights=weights, optimiser="sgd")
    batch = make_batch()
    after, metrics = step(state, batch)

    def by_hand(w):
        u = state.tables["user"][batch["uniq/user"][0]][batch["user"][0, 0]].sum(-1)
        y = batch["x"][0, 0] @ w + u[:, None]
        bce = optax.sigmoid_binary_cross_entropy(y[:, 0], batch["label/click"][0, 0])
        mse = (y[:, 1] - batch["label/rating"][0, 0]) ** 2
        total = 0.0
        for weight, loss, name in zip(weights, (bce, mse), ("click", "rating"), strict=True):
            mask = batch[f"mask/{name}"][0, 0]
            total += weight * (loss * mask).sum() / mask.sum()
        return total

    grad = jax.grad(by_hand)(state.params["heads"]["w"])
    np.testing.assert_allclose(
        state.params["heads"]["w"] - after.params["heads"]["w"], grad, rtol=1e-4, atol=1e-6
    )
    counts = [batch["mask/click"].sum(), batch["mask/rating"].sum()]
    np.testing.assert_array_equal(metrics["count"], counts)
    means = metrics["loss_sum"] / metrics["count"]
    assert np.isclose(
        np.sum(means * np.array(weights)), by_hand(state.params["heads"]["w"]), rtol=1e-5
    )
    np.testing.assert_array_equal(metrics["weights"], weights)


def test_accumulated_slices_give_the_step_of_the_whole_batch():
    step, state = build()
    whole = make_batch(slices=1)
    halves = {k: v if k.startswith("uniq/") else v.reshape(2, 1, 4, *v.shape[3:])
              for k, v in whole.items()}  # fmt: skip
    one, m1 = step(state, whole)
    two, m2 = step(state, halves)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for name in ("loss_sum", "count", "grad_norm"):
        np.testing.assert_allclose(m1[name], m2[name], rtol=1e-5)


def test_clipping_counts_the_tables_rows_too():
    batch = make_batch()
    free, state = build(optimiser="sgd")
    clipped, _ = build(dataclasses.replace(OPTIM, clip=0.1), optimiser="sgd")
    loose, m = free(state, batch)
    tight, _ = clipped(state, batch)
    whole = np.asarray(state.params["heads"]["w"] - loose.params["heads"]["w"])
    norm = float(m["grad_norm"])
    assert norm > np.linalg.norm(whole) > 0.1
    np.testing.assert_allclose(
        state.params["heads"]["w"] - tight.params["heads"]["w"], whole * 0.1 / norm, rtol=1e-4
    )


@pytest.mark.parametrize(("balancer", "broken"), [("fixed", "x"), ("uncertainty", "label/rating")])
def test_a_non_finite_update_is_not_applied(balancer, broken):
    step, state = build(name=balancer)
    state, _ = step(state, make_batch(1))
    bad = make_batch(2)
    bad["mask/rating"][:] = 1
    bad[broken][0, 0, 0] = np.nan
    after, metrics = step(state, bad)
    assert not metrics["finite"]
    assert bits(without_step(after)) == bits(without_step(state))
    assert int(after.step) == int(state.step) + 1, "the step is counted: the next batch comes"
    click, rating = np.isfinite(metrics["loss_sum"])
    assert not rating
    assert click == (broken == "label/rating"), "the task at fault can be named"
    again, metrics = step(after, make_batch(3))
    assert metrics["finite"]
    assert bits(again.params) != bits(after.params)


def test_an_overflowing_gradient_is_not_applied_either():
    step, state = build()
    bad = make_batch(2)
    bad["label/rating"][:] = 1e25
    after, metrics = step(state, bad)
    assert not metrics["finite"]
    assert bits(without_step(after)) == bits(without_step(state))


def test_a_missing_label_does_not_move_anything():
    step, state = build()
    batch = make_batch(4)
    other = {k: v.copy() for k, v in batch.items()}
    for name in ("click", "rating"):
        other[f"label/{name}"][batch[f"mask/{name}"] == 0] = np.nan
    assert bits(step(state, batch)) == bits(step(state, other))


def test_a_task_without_rows_in_the_batch_has_no_weight():
    step, state = build(name="uncertainty")
    batch = make_batch(5)
    batch["mask/rating"][:] = 0
    after, metrics = step(state, batch)
    assert metrics["finite"]
    assert metrics["weights"][1] == 0
    assert after.balancer["s"][1] == state.balancer["s"][1]
    np.testing.assert_array_equal(
        after.params["heads"]["w"][:, 1], state.params["heads"]["w"][:, 1]
    )


def test_the_key_of_a_step_depends_on_the_step_alone():
    step, state = build(noise=1.0)
    first, m1 = step(state, make_batch())
    _, again = step(state, make_batch())
    _, m2 = step(dataclasses.replace(state, step=state.step + 1), make_batch())
    assert m1["loss_sum"].tolist() == again["loss_sum"].tolist()
    assert m1["loss_sum"].tolist() != m2["loss_sum"].tolist()
    np.testing.assert_array_equal(first.key, state.key)
