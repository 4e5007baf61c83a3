"""Regression metrics against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mtl_jax.metrics import regression
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.registry import METRICS

ORACLES = {
    "mae": oracle.mean_absolute_error,
    "rmse": oracle.root_mean_squared_error,
    "r2": oracle.r2_score,
}


@pytest.mark.parametrize("name", ORACLES)
@given(seed=st.integers(0, 10_000), shift=st.sampled_from([0.0, 3.5, 1e6]))
@settings(max_examples=25, deadline=None)
def test_agrees_with_scikit_learn_and_weights_repeat(name, seed, shift):
    r = np.random.default_rng(seed)
    y, w = r.normal(size=60) + shift, r.integers(0, 4, 60)
    p = y + r.normal(size=60)
    metric, again = METRICS["regression"][name], r.permutation(np.repeat(np.arange(60), w))
    assert metric(y, p) == pytest.approx(ORACLES[name](y, p), abs=1e-7)
    assert metric(y, p, weights=w) == pytest.approx(ORACLES[name](y, p, sample_weight=w), abs=1e-7)
    assert metric(y, p, weights=w) == pytest.approx(metric(y[again], p[again]), abs=1e-7)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_r2_of_a_constant_label_is_undefined(constant):
    with pytest.raises(Undefined, match="all equal"):
        regression.r2(np.full(7, constant), np.arange(7.0))


def test_r2_of_rows_left_by_weights_is_undefined_when_they_are_equal():
    y = np.array([1.1, 1.1, 1.1, 5.0])
    with pytest.raises(Undefined, match="all equal"):
        regression.r2(y, np.arange(4.0), weights=np.array([1, 1, 1, 0]))


def test_nan_is_refused_not_averaged():
    with pytest.raises(ValueError, match="prediction of row 1 is NaN"):
        regression.mae(np.zeros(2), np.array([0, np.nan]))
