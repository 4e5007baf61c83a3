"""Rates and decay by path, schedules, clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.train import optimiser
from mtl_jax.train.config import OptimConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")
PARAMS = {
    "encoder": {"layer_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
    "towers": {
        "out": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
        "user": {"position": jnp.ones((3, 2))},
    },
    "heads": {"out": {"kernel": jnp.ones((2, 1))}},
}
FLAT = {"schedule": "constant", "warmup": 0, "learning_rate": 0.01}


def one_update(config, params=PARAMS, grads=None):
    tx = optimiser.make(config, params, 10)
    grads = jax.tree.map(jnp.ones_like, params) if grads is None else grads
    return tx.update(grads, tx.init(params), params)[0]


def test_rates_by_path_first_match_wins():
    rates = (("^encoder/", 0.05), ("bias$", 3.0), ("^towers/", 0.5))
    found = one_update(OptimConfig(decay=0.0, rates=rates, **FLAT))
    # Adam's first step is the sign of the gradient.
    np.testing.assert_allclose(found["encoder"]["layer_0"]["kernel"], -0.01 * 0.05, rtol=1e-5)
    np.testing.assert_allclose(found["encoder"]["layer_0"]["bias"], -0.01 * 0.05, rtol=1e-5)
    np.testing.assert_allclose(found["towers"]["out"]["bias"], -0.01 * 3.0, rtol=1e-5)
    np.testing.assert_allclose(found["towers"]["out"]["kernel"], -0.01 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(found["heads"]["out"]["kernel"], -0.01, rtol=1e-5)


def test_decay_is_decoupled_and_leaves_biases_norms_and_positions_alone():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found = one_update(OptimConfig(decay=0.1, rates=(), **FLAT), grads=zero)
    np.testing.assert_allclose(found["towers"]["out"]["kernel"], -0.01 * 0.1 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(found["encoder"]["layer_0"]["kernel"], -0.001, rtol=1e-5)
    for left in (
        found["encoder"]["layer_0"]["bias"],
        found["towers"]["norm"]["scale"],
        found["towers"]["norm"]["bias"],
        found["towers"]["user"]["position"],
    ):
        np.testing.assert_array_equal(left, np.zeros_like(left))


def test_adam_does_not_decay_and_sgd_is_momentum():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    adam = one_update(OptimConfig("adam", decay=0.1, rates=(), **FLAT), grads=zero)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(adam))
    config = OptimConfig("sgd", decay=0.0, rates=(), momentum=0.5, **FLAT)
    tx = optimiser.make(config, PARAMS, 10)
    state, grads = tx.init(PARAMS), jax.tree.map(lambda x: jnp.full_like(x, 2.0), PARAMS)
    for trace in (2.0, 3.0, 3.5):
        found, state = tx.update(grads, state, PARAMS)
        np.testing.assert_allclose(found["heads"]["out"]["kernel"], -0.01 * trace, rtol=1e-5)


def test_a_rule_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"optim\.rates: the pattern '\^tower_/'"):
        optimiser.make(OptimConfig(rates=(("^tower_/", 0.1),)), PARAMS, 10)
    # The default rule for the encoder says nothing where no encoder trains.
    without = {k: v for k, v in PARAMS.items() if k != "encoder"}
    optimiser.make(OptimConfig(), without, 10)


def test_the_schedule_warms_up_then_follows_a_cosine():
    rate = optimiser.schedule(OptimConfig(learning_rate=0.4, warmup=10, final=0.25), 110)
    for step, value in {0: 0.0, 5: 0.2, 10: 0.4, 60: 0.25, 110: 0.1, 500: 0.1}.items():
        assert np.isclose(rate(step), value, rtol=1e-5), step
    flat = OptimConfig(learning_rate=0.4, warmup=4, schedule="constant")
    constant = optimiser.schedule(flat, 100)
    assert np.isclose(constant(2), 0.2)
    assert np.isclose(constant(77), 0.4)
    short = optimiser.schedule(OptimConfig(learning_rate=0.4, warmup=100), 5)
    assert np.isclose(short(4), 0.4), "a run shorter than its warm-up still reaches the rate"


@pytest.mark.parametrize(("norm", "factor"), [(0.5, 1.0), (2.0, 1.0), (8.0, 0.25), (0.0, 1.0)])
def test_gradients_are_clipped_to_the_global_norm(norm, factor):
    assert optimiser.clip_factor(OptimConfig(clip=2.0), jnp.float32(norm)) == factor
    assert optimiser.clip_factor(OptimConfig(clip=0.0), jnp.float32(norm)) == 1.0
    grads = {"a": jnp.full((4,), norm / 2)}
    by_optax = optax.clip_by_global_norm(2.0).update(grads, optax.EmptyState())[0]["a"]
    np.testing.assert_allclose(grads["a"] * factor, by_optax, rtol=1e-6)


def test_decays_by_path_first_match_wins_and_nothing_undecayed_decays():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    decays = (("^towers/", 3.0), ("out", 7.0))
    found = one_update(OptimConfig(decay=0.1, decays=decays, rates=(), **FLAT), grads=zero)
    np.testing.assert_allclose(found["towers"]["out"]["kernel"], -0.01 * 3.0 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(found["heads"]["out"]["kernel"], -0.01 * 7.0, rtol=1e-5)
    np.testing.assert_allclose(found["encoder"]["layer_0"]["kernel"], -0.001, rtol=1e-5)
    np.testing.assert_array_equal(found["towers"]["out"]["bias"], np.zeros(2))
    with pytest.raises(UserError, match=r"optim\.decays: the pattern 'towrs'"):
        one_update(OptimConfig(decays=(("towrs", 1.0),), rates=(), **FLAT))
