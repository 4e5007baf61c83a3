import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.nn.context import DAY, WEEK, Gate, periodic


def test_time_is_periodic_in_days_and_weeks():
    hours = np.array([3.0, 3.0 + DAY, 3.0 + WEEK, 15.0], np.float32)
    waves = np.asarray(periodic(hours, np.zeros(4, np.float32)))
    assert waves.shape == (4, 16)
    np.testing.assert_allclose(waves[0], waves[2], atol=1e-4)
    daily = [0, 1, 2, 3, 8, 9, 10, 11]
    np.testing.assert_allclose(waves[0, daily], waves[1, daily], atol=1e-4)
    assert np.abs(waves[0] - waves[1]).max() > 0.1, "another day of the week"
    assert np.abs(waves[0, daily] - waves[3, daily]).max() > 0.5, "another hour"
    np.testing.assert_allclose(waves[:, 0], np.sin(2 * np.pi * hours / 24), atol=1e-4)


def test_the_gate_starts_open_and_context_mutes_or_strengthens():
    user, context = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    params = Gate().init(jax.random.PRNGKey(0), user, context)
    np.testing.assert_array_equal(Gate().apply(params, user, context), user)
    kernel = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    params = {"params": {"gate": {"kernel": jnp.asarray(kernel), "bias": jnp.ones(4)}}}
    found = Gate().apply(params, user, context)
    np.testing.assert_allclose(found, user * (1 + np.tanh(context @ kernel + 1)), rtol=1e-4)
