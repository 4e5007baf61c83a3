"""Correlations against scipy; AUC where labels allow it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from mtl_jax.metrics import similarity
from mtl_jax.metrics.base import Undefined

CORRELATIONS = (
    (similarity.pearson, stats.pearsonr),
    (similarity.spearman, stats.spearmanr),
)


@pytest.mark.parametrize(("metric", "theirs"), CORRELATIONS)
@given(seed=st.integers(0, 10_000), shift=st.sampled_from([0.0, 1e5]))
@settings(max_examples=20, deadline=None)
def test_correlations_are_scipys_and_weights_repeat(metric, theirs, seed, shift):
    r = np.random.default_rng(seed)
    y = r.integers(0, 6, 50) + shift  # with ties
    p = np.round(0.4 * y + r.normal(size=50), 1)
    assert metric(y, p) == pytest.approx(theirs(y, p).statistic, abs=1e-6)
    w = r.integers(0, 4, 50)
    again = r.permutation(np.repeat(np.arange(50), w))
    assert metric(y, p, weights=w) == pytest.approx(theirs(y[again], p[again]).statistic, abs=1e-6)


@pytest.mark.parametrize("metric", [similarity.pearson, similarity.spearman])
@pytest.mark.parametrize("constant", [0.1, 1e9 + 0.1])
def test_a_constant_has_no_correlation(metric, constant):
    x = np.arange(7.0)
    for y, p in ((x, np.full(7, constant)), (np.full(7, constant), x)):
        with pytest.raises(Undefined, match="all equal"):
            metric(y, p)
    y, w = np.random.default_rng(0).random((2, 50))
    with pytest.raises(Undefined, match="all equal"):
        metric(y, np.full(50, constant), weights=w)
    with pytest.raises(Undefined, match="all equal"):
        metric(np.append(np.full(6, constant), 5.0), x, weights=[1, 1, 1, 1, 1, 1, 0])


def test_ranks_are_all_that_spearman_sees():
    r = np.random.default_rng(0)
    y, p = r.normal(size=(2, 40))
    assert similarity.spearman(y, np.exp(3 * p)) == pytest.approx(similarity.spearman(y, p))
    assert abs(similarity.pearson(y, np.exp(3 * p)) - similarity.pearson(y, p)) > 1e-3


def test_the_area_is_of_0_and_1_only():
    r = np.random.default_rng(1)
    y, p = r.integers(0, 2, 60), r.random(60)
    assert similarity.auc(y, p) == pytest.approx(oracle.roc_auc_score(y, p), abs=1e-12)
    with pytest.raises(Undefined, match="values"):
        similarity.auc(y * 4.0, p)
