"""Row-wise lazy Adam and Adagrad against plain numpy loops and torch; what is compiled."""

import dataclasses
import re

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


def test_the_rate_of_tables_is_their_own():
    values, state = start()
    slow = dataclasses.replace(CONFIG, table_rate=0.25)
    given = {"item": jnp.ones((1, D))}, {"item": jnp.array([4])}
    rest = jnp.float32(1.0), jnp.bool_(True)
    found, _ = tables.update(slow, values, state, *given, jnp.float32(0.2), *rest)
    same, _ = tables.update(CONFIG, values, state, *given, jnp.float32(0.05), *rest)
    np.testing.assert_allclose(found["item"], same["item"], rtol=1e-6)


# What torch does with the same sparse gradients. Rows 9 and above are never touched.
PLAIN = OptimConfig()
ADAGRAD = OptimConfig(table_optimiser="adagrad")


def lookups(n):
    """Rows of step n, some of them twice; and their gradients, small and large ones."""
    rng = np.random.default_rng(n)
    ids = rng.integers(0, 9, 7)
    return ids, rng.normal(size=(7, D)).astype(np.float32) * 10.0 ** rng.integers(-3, 2, (7, 1))


def ours(config, steps=6, rate=0.05):
    """Values after so many steps: distinct rows, gradients summed over look-ups, as in a step."""
    values, _ = start()
    state = tables.init(values, config.table_optimiser)
    update = jax.jit(tables.update, static_argnums=0)
    for n in range(steps):
        ids, grads = lookups(n)
        distinct, place = np.unique(ids, return_inverse=True)
        padded = np.concatenate([distinct, N + np.arange(7 - len(distinct))])
        summed = np.zeros((7, D), np.float32)
        np.add.at(summed, place, grads)
        given = {"item": jnp.asarray(summed)}, {"item": jnp.asarray(padded, jnp.int32)}
        told = jnp.float32(rate), jnp.float32(n + 1), jnp.bool_(True)
        values, state = update(config, values, state, *given, *told)
    return np.asarray(values["item"])


def theirs(make, steps=6, sparse=True):
    torch = pytest.importorskip("torch", reason="torch is in the extras dev and bench")
    values = torch.nn.Parameter(torch.from_numpy(np.array(start()[0]["item"])))
    optimiser = make(torch, [values])
    for n in range(steps):
        ids, grads = lookups(n)
        values.grad = torch.sparse_coo_tensor(
            torch.from_numpy(ids)[None], torch.from_numpy(grads.astype(np.float32)), (N, D)
        ).coalesce()
        if not sparse:
            values.grad = values.grad.to_dense()
        optimiser.step()
    return values.detach().numpy()


def test_adam_is_torchs_sparse_adam():
    # Its epsilon stands before bias correction, ours (and that of torch's dense Adam) after it.
    want = theirs(lambda torch, p: torch.optim.SparseAdam(p, 0.05, eps=1e-13))
    np.testing.assert_allclose(ours(PLAIN), want, rtol=1e-5, atol=2e-6)
    usual = theirs(lambda torch, p: torch.optim.SparseAdam(p, 0.05))
    np.testing.assert_allclose(ours(PLAIN), usual, atol=1e-4)


def test_adagrad_is_torchs_on_sparse_and_on_dense_gradients():
    want = theirs(lambda torch, p: torch.optim.Adagrad(p, 0.05))
    found = ours(ADAGRAD)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    dense = theirs(lambda torch, p: torch.optim.Adagrad(p, 0.05), sparse=False)
    np.testing.assert_allclose(found, dense, rtol=1e-5, atol=1e-6)
    assert found[9:].tobytes() == np.asarray(start()[0]["item"])[9:].tobytes()


def test_dense_adam_goes_on_moving_rows_that_no_batch_touches_and_lazy_adam_does_not():
    dense = [theirs(lambda torch, p: torch.optim.Adam(p, 0.05), n, sparse=False) for n in (1, 3)]
    lazy = [ours(PLAIN, n) for n in (1, 3)]
    later = np.concatenate([lookups(1)[0], lookups(2)[0]])
    rows = np.setdiff1d(lookups(0)[0], later)
    assert len(rows)
    np.testing.assert_allclose(lazy[0], dense[0], rtol=1e-5, atol=1e-6)  # alike after one step
    assert (lazy[1][rows] == lazy[0][rows]).all()
    assert (np.abs(dense[1][rows] - dense[0][rows]) > 1e-3).all()


def test_bias_correction_counts_the_runs_steps_and_not_the_rows():
    values, state = start()
    late, _ = step(values, state, [2], np.ones((1, D)), 1000, rate=1.0)
    early, _ = step(values, state, [2], np.ones((1, D)), 1, rate=1.0)
    moved = [np.asarray(x["item"][2] - values["item"][2] * 0.9) for x in (late, early)]
    correction = (1 - 0.9) / (1 - 0.9**1000) / np.sqrt((1 - 0.999) / (1 - 0.999**1000))
    np.testing.assert_allclose(moved[0], moved[1] * correction, rtol=1e-4)


@pytest.mark.parametrize("config", [PLAIN, ADAGRAD])
def test_tables_are_updated_in_place_and_nothing_else_grows_with_them(config):
    def temporaries(n):
        def f(values, state, ids, weights):
            def loss(rows):
                return jnp.tanh(rows[ids % 5] @ weights).sum()

            rows = values["item"].at[ids].get(mode="fill", fill_value=0)
            grads = {"item": jax.grad(loss)(rows)}
            told = jnp.float32(0.1), jnp.float32(3.0), jnp.bool_(True)
            return tables.update(config, values, state, grads, {"item": ids}, *told)

        values = {"item": jax.ShapeDtypeStruct((n, D), jnp.float32)}
        state = jax.eval_shape(lambda v: tables.init(v, config.table_optimiser), values)
        ids = jax.ShapeDtypeStruct((5,), jnp.int32)
        weights = jax.ShapeDtypeStruct((D,), jnp.float32)
        lowered = jax.jit(f, donate_argnums=(0, 1)).lower(values, state, ids, weights)
        compiled = lowered.compile()
        told = compiled.memory_analysis()
        arrays = 1 + len(state["item"])
        assert told.alias_size_in_bytes == arrays * n * D * 4, "every table in place"
        entry = compiled.as_text().partition("\nENTRY")[2]
        made = re.findall(rf"%(\S+?)[.\d]* = f32\[{n},{D}\]\S* (\S+?)\(", entry)
        made = sorted(name for name, op in made if op != "parameter")
        assert made == ["wrapped_scatter"] * arrays, "nothing as large as a table but its scatter"
        return told.temp_size_in_bytes

    assert temporaries(1_000) == temporaries(1_000_000) < 10_000
