"""Row-wise lazy Adam against a plain numpy loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.train import tables
from mtl_jax.train.config import OptimConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")
N, D = 12, 3
CONFIG = OptimConfig(table_decay=0.1)
UPDATE = jax.jit(tables.update, static_argnums=0)


def start():
    rng = np.random.default_rng(0)
    values = {"item": jnp.asarray(rng.normal(size=(N, D)), jnp.float32)}
    return values, tables.init(values)


def step(values, state, ids, grads, count, apply=True, rate=0.05):
    return UPDATE(
        CONFIG,
        values,
        state,
        {"item": jnp.asarray(grads, jnp.float32)},
        {"item": jnp.asarray(ids, jnp.int32)},
        jnp.float32(rate),
        jnp.float32(count),
        jnp.bool_(apply),
    )


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def test_rows_move_as_in_a_plain_loop_and_others_not_by_a_bit():
    values, state = start()
    first = np.asarray(values["item"])
    x, mu, nu = np.float64(first), np.zeros((N, D)), np.zeros((N, D))
    rng = np.random.default_rng(1)
    touched = set()
    for count in range(1, 6):
        rows = rng.choice(9, 4, replace=False)  # rows 9, 10, 11 are never touched
        touched |= set(rows.tolist())
        grads = rng.normal(size=(6, D))
        ids = [*rows, N, N + 3]  # beyond the table: padding
        values, state = step(values, state, ids, grads, count)
        for r, g in zip(rows, grads, strict=False):
            mu[r] = 0.9 * mu[r] + 0.1 * g
            nu[r] = 0.999 * nu[r] + 0.001 * g * g
            adam = (mu[r] / (1 - 0.9**count)) / (np.sqrt(nu[r] / (1 - 0.999**count)) + 1e-8)
            x[r] -= 0.05 * (adam + 0.1 * x[r])
    np.testing.assert_allclose(values["item"], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["item"]["mu"], mu, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state["item"]["nu"], nu, rtol=1e-3, atol=1e-7)
    still = sorted(set(range(N)) - touched)
    assert len(still) >= 3
    assert np.asarray(values["item"])[still].tobytes() == first[still].tobytes()
    assert (np.asarray(state["item"]["mu"])[still] == 0).all()


def test_a_row_left_out_for_a_while_keeps_its_moments():
    values, state = start()
    values, state = step(values, state, [2], np.ones((1, D)), 1)
    before = np.asarray(values["item"][2]), np.asarray(state["item"]["mu"][2])
    for count in range(2, 5):
        values, state = step(values, state, [5], np.ones((1, D)), count)
    assert (np.asarray(values["item"][2]) == before[0]).all()
    assert (np.asarray(state["item"]["mu"][2]) == before[1]).all()


def test_padding_ids_touch_nothing():
    values, state = start()
    after = step(values, state, [N, N, N], np.full((3, D), 9.0), 1)
    assert bits(after) == bits((values, state))


def test_nothing_moves_when_the_update_is_not_applied():
    values, state = step(*start(), [1, 2], np.ones((2, D)), 1)
    after = step(values, state, [1, 2, N], np.full((3, D), np.nan), 2, apply=False)
    assert bits(after) == bits((values, state))


def test_the_norm_counts_every_table():
    grads = {"a": jnp.full((2, 2), 3.0), "b": jnp.full((1, 4), 2.0)}
    assert tables.norm_squared(grads) == 4 * 9 + 4 * 4


def test_decay_leaves_the_biases_behind_the_vector_alone():
    values, state = start()
    zero = {"item": jnp.zeros((1, D))}
    ids = {"item": jnp.array([4])}
    rate, one = jnp.float32(0.05), jnp.float32(1.0)
    found, _ = tables.update(CONFIG, values, state, zero, ids, rate, one, jnp.bool_(True), 2)
    before, after = np.asarray(values["item"][4]), np.asarray(found["item"][4])
    np.testing.assert_allclose(after[:2], before[:2] * (1 - 0.05 * 0.1), rtol=1e-5)
    assert after[2] == before[2]
