"""Cumulative links: probabilities of ordered levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from mtl_jax.nn.ordinal import log_probabilities, raw_of, start_thresholds, thresholds

pytestmark = pytest.mark.usefixtures("quick_compilation")


def draw(seed, levels=5, spread=2.0):
    r = np.random.default_rng(seed)
    return np.float32(r.normal(0, 3, 7)), np.float32(r.normal(0, spread, levels - 1))


@given(
    seed=st.integers(0, 1000), levels=st.sampled_from([2, 5]), spread=st.sampled_from([1.0, 30.0])
)
@settings(max_examples=20, deadline=None)
def test_thresholds_rise_and_probabilities_sum_to_1(seed, levels, spread):
    score, raw = draw(seed, levels, spread)
    theta = np.asarray(thresholds(raw))
    assert (np.diff(theta) > 0).all()
    p = np.exp(log_probabilities(score, raw))
    assert p.shape == (7, levels)
    assert (p > 0).all() or spread > 1
    np.testing.assert_allclose(p.sum(1), 1.0, rtol=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_level_is_the_difference_of_two_sigmoids(seed):
    score, raw = draw(seed)
    cuts = np.float64(thresholds(raw))[None] - np.float64(score)[:, None]
    below = np.pad(expit(cuts), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    found = np.exp(log_probabilities(score, raw))
    np.testing.assert_allclose(found, np.diff(below, axis=1), rtol=1e-3, atol=1e-6)


def test_a_higher_score_moves_probability_up():
    _, raw = draw(1)
    low, high = np.exp(log_probabilities(np.float32([0.0, 0.7]), raw))
    assert (np.cumsum(high)[:-1] < np.cumsum(low)[:-1]).all()


def test_far_out_scores_are_finite_with_finite_gradients():
    _, raw = draw(2)
    score = jnp.float32([-200.0, 200.0, 0.0])

    def total(score, raw):
        return log_probabilities(score, raw).sum()

    value, grads = jax.value_and_grad(total, argnums=(0, 1))(score, jnp.asarray(raw))
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in grads)
    raw[1:] = -300.0  # steps as small as they get
    assert np.isfinite(log_probabilities(score, raw)).all()


def test_it_starts_at_the_shares_of_the_levels():
    counts = np.array([10, 40, 0, 300, 50])
    start = start_thresholds(counts)
    np.testing.assert_allclose(thresholds(raw_of(start)), start, atol=3e-3)
    p = np.exp(log_probabilities(np.zeros(1, np.float32), raw_of(start)))[0]
    np.testing.assert_allclose(p, (counts + 0.5) / (counts + 0.5).sum(), atol=2e-3)
    assert (np.diff(thresholds(raw_of(start_thresholds(np.array([0, 1e6, 0, 0]))))) > 0).all()
