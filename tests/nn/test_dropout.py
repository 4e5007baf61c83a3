"""Dropout: shares, scale, independence of entries that share a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.nn.dropout import Dropout, keep_mask

KEY = jax.random.PRNGKey(0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_is_kept_and_the_mean_stays(rate: float) -> None:
    x = jnp.ones((400, 501))
    y = np.asarray(Dropout(rate).apply({}, x, False, rngs={"dropout": KEY}))
    spread = np.sqrt(rate * (1 - rate) / x.size)
    assert abs((y == 0).mean() - rate) < 5 * spread
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2e-4)


def test_neighbours_and_halves_are_independent() -> None:
    keep, _ = keep_mask(KEY, (1000, 400), 0.5)
    x = np.asarray(keep, np.float64) - 0.5
    for other in (np.roll(x, 1, 1), np.roll(x, 1, 0), np.roll(x, 200, 1)):
        assert abs((x * other).mean() / 0.25) < 5 / np.sqrt(x.size)


def test_extreme_rates_and_the_dtype() -> None:
    x = jnp.ones((3, 5), jnp.bfloat16)
    assert not np.asarray(Dropout(1.0).apply({}, x, False, rngs={"dropout": KEY}), bool).any()
    for y in (Dropout(0.0).apply({}, x, False), Dropout(0.7).apply({}, x, True)):
        np.testing.assert_array_equal(np.asarray(y, np.float32), 1.0)
    y = Dropout(0.3).apply({}, x, False, rngs={"dropout": KEY})
    assert y.dtype == jnp.bfloat16
    assert y.shape == (3, 5)
