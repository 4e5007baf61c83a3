"""Paired t against scipy, Holm by hand, intervals that cover what they promise."""

import numpy as np
import pytest
from scipy import stats

from mtl_jax.metrics.bootstrap import paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.significance import bootstrap_p, both, holm, mean_t, over_users, paired_t


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_paired_t_is_scipys(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(0, 2, n)
    wanted = stats.ttest_rel(a, b)
    low, high = wanted.confidence_interval(0.95)
    found = paired_t(a, b)
    np.testing.assert_allclose(
        (found["value"], found["low"], found["high"], found["p"]),
        ((a - b).mean(), low, high, wanted.pvalue),
        rtol=1e-10,
    )
    assert found["why"] == ""


def test_pairs_are_what_makes_the_difference_seen():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 10, 5)  # a seed moves both models alike
    ours, theirs = seeds + 0.5 + rng.normal(0, 0.1, 5), seeds + rng.normal(0, 0.1, 5)
    p = paired_t(ours, theirs)["p"]
    assert p is not None
    assert p < 0.01
    assert stats.ttest_ind(ours, theirs).pvalue > 0.5


def test_one_seed_has_a_difference_and_no_interval():
    found = paired_t([0.7], [0.5])
    np.testing.assert_allclose(found["value"], 0.2)
    assert (found["low"], found["high"], found["p"]) == (None, None, None)
    assert "one seed" in found["why"]


def test_equal_differences_are_the_limit_of_the_formula():
    assert paired_t([1.0, 2.0], [1.0, 2.0])["p"] == 1.0
    certain = paired_t([2.0, 3.0], [1.0, 2.0])
    assert (certain["low"], certain["high"], certain["p"]) == (1.0, 1.0, 0.0)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="pairs"):
        paired_t([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no values"):
        mean_t([])


def test_the_t_interval_covers_the_mean_in_19_of_20_studies():
    rng = np.random.default_rng(7)
    n = 4000
    hits = rejected = 0
    for x in rng.normal(0.4, 1.3, (n, 5)):
        found = mean_t(x)
        assert found["low"] is not None
        assert found["high"] is not None
        hits += found["low"] <= 0.4 <= found["high"]
        p = mean_t(x - 0.4)["p"]
        assert p is not None
        rejected += p < 0.05
    # 3 standard errors of a share of .95 in 4,000 draws are .0103; a normal interval has .875
    assert abs(hits / n - 0.95) < 0.0103
    assert rejected == n - hits, "the test and the interval are one"


def test_the_interval_over_users_covers_the_true_difference():
    rng = np.random.default_rng(3)
    n_users, hits, n = 60, 0, 300
    for _ in range(n):
        # a user's rows share an effect; the true difference of the two means is .2
        gain = 0.2 + rng.normal(0, 1, n_users)
        counts = np.random.default_rng(int(rng.integers(2**32))).multinomial(
            n_users, np.full(n_users, 1 / n_users), size=300
        )
        ours = np.stack([counts @ gain / n_users] * 2)
        found = over_users(float(gain.mean()), ours, np.zeros_like(ours), n_users)
        assert found["low"] is not None
        assert found["high"] is not None
        hits += found["low"] <= 0.2 <= found["high"]
    assert abs(hits / n - 0.95) < 0.04


def test_over_users_averages_differences_over_seeds_inside_a_replicate():
    ours = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    theirs = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 4.0]])
    found = over_users(1.5, ours, theirs, 3)
    low, high = np.quantile([1.0, 2.0, 2.0], [0.025, 0.975])
    assert (found["low"], found["high"]) == (low, high)
    assert found["value"] == 1.5
    assert found["p"] == 2 * 1 / 4
    alone = over_users(1.5, ours, theirs, 1)
    assert (alone["p"], alone["low"]) == (None, None)
    assert "one user" in alone["why"]


def test_with_one_seed_it_is_the_paired_bootstrap():
    rng = np.random.default_rng(0)
    users, y = rng.integers(0, 30, 400), rng.integers(0, 2, 400).astype(float)
    a, b = rng.random(400) + 0.3 * y, rng.random(400)
    metric = METRICS["binary"]["auc"]
    wanted = paired_difference(metric, y, a, b, users, n=200)

    from mtl_jax.metrics.base import user_index
    from mtl_jax.metrics.bootstrap import replicates

    index, n_users = user_index(users)
    prepared = {k: metric.prepare(y, v, index, n_users) for k, v in {"a": a, "b": b}.items()}
    drawn = replicates(prepared, n_users, 200, 0)
    found = over_users(metric(y, a) - metric(y, b), drawn["a"][None], drawn["b"][None], n_users)
    assert wanted["value"] == found["value"]
    assert (wanted["low"], wanted["high"]) == (found["low"], found["high"])


def test_bootstrap_p_counts_the_smaller_side_twice():
    assert bootstrap_p(np.array([1.0, 2.0, 3.0, -1.0, 4.0])) == 2 * 2 / 6
    assert bootstrap_p(-np.array([1.0, 2.0, 3.0, -1.0, 4.0])) == 2 * 2 / 6
    assert bootstrap_p(np.arange(1.0, 1000)) == 2 / 1000, "never 0"
    assert bootstrap_p(np.zeros(50)) == 1.0
    assert bootstrap_p(np.array([1.0, np.nan, 1.0])) == 2 / 3


def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, never falling: .02 .03 .06 .06
    found = holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(np.array(found, float), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_what_was_not_tested_does_not_count():
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]
    assert holm([None]) == [None]


def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(11)
    wrong = sum(
        min(p for p in holm(list(row)) if p is not None) < 0.05 for row in rng.random((4000, 8))
    )
    assert 0.035 < wrong / 4000 < 0.0604  # 3 standard errors about .0489 = 1 - (1 - .05/8)^8


def test_both_tests_must_say_so():
    assert both(0.01, 0.2) == 0.2
    assert both(None, 0.03) == 0.03
    assert both(None, None) is None
