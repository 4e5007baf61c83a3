"""Dropout: shares, scale, independence of entries and of keys."""

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


def test_neighbours_and_keys_are_independent() -> None:
    def centred(key: jax.Array) -> np.ndarray:
        return np.asarray(keep_mask(key, (1000, 400), 0.5)[0], np.float64) - 0.5

    x, y = centred(KEY), centred(jax.random.fold_in(KEY, 1))
    around = [np.roll(x, n, 1) for n in (1, 2, 3, 4, 8, 16, 64, 200)] + [np.roll(x, 1, 0)]
    for other in (*around, y, np.roll(y, 1, 1)):
        assert abs((x * other).mean() / 0.25) < 5 / np.sqrt(x.size)
    # Of rows and columns the shares spread as those of coins do.
    for axis in (0, 1):
        spread = x.mean(axis).var() / (0.25 / x.shape[axis])
        assert 0.7 < spread < 1.35


def test_extreme_rates_and_the_dtype() -> None:
    x = jnp.ones((3, 5), jnp.bfloat16)
    assert not np.asarray(Dropout(1.0).apply({}, x, False, rngs={"dropout": KEY}), bool).any()
    for y in (Dropout(0.0).apply({}, x, False), Dropout(0.7).apply({}, x, True)):
        np.testing.assert_array_equal(np.asarray(y, np.float32), 1.0)
    y = Dropout(0.3).apply({}, x, False, rngs={"dropout": KEY})
    assert y.dtype == jnp.bfloat16
    assert y.shape == (3, 5)
