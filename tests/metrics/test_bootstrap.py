"""Intervals by users: the fast ways are the slow way, draws are paired, coverage is right."""

import numpy as np
import pytest

from mtl_jax.metrics import binary, regression
from mtl_jax.metrics.area import AreaUnderCurve
from mtl_jax.metrics.base import RowWeighted, Undefined, user_index
from mtl_jax.metrics.bootstrap import (
    draws,
    estimate,
    estimates,
    paired_difference,
    replicates,
    share_of_gap,
)
from mtl_jax.metrics.registry import METRICS


def draw(seed=0, n=400, users=25):
    r = np.random.default_rng(seed)
    p = r.integers(1, 20, n) / 20
    return (r.random(n) < p).astype(float), p, r.integers(0, users, n)


def as_kind(kind, y, p):
    """Labels and predictions of the shapes that the kind has."""
    if kind in ("multiclass", "ordinal"):
        return y, np.stack([(1 - p) / 2, p, (1 - p) / 2], axis=1)
    if kind == "multilabel":
        y, p = np.stack([y, np.roll(y, 1), y], axis=1), np.stack([p, p**2, p], axis=1)
        y[::7, 1] = np.nan
    return y, p


# the bins of equal mass stay those of the whole sample, by definition
EVERY = [
    (kind, name)
    for kind, metrics in METRICS.items()
    for name in metrics
    if name != "calibration_error_mass"
]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_prepared_metric_is_the_metric_with_row_weights(kind, name):
    y, p, users = draw()
    metric = METRICS[kind][name]
    y, said = as_kind(kind, y, p)
    index, n_users = user_index(users)
    slow = RowWeighted(name, lambda y, p, w: metric(y, p, weights=w, users=index))
    both = {"fast": metric, "slow": slow}
    prepared = {key: m.prepare(y, said, index, n_users) for key, m in both.items()}
    found = replicates(prepared, n_users, 70, seed=1)
    assert found["fast"].std() > 0 or name.startswith("top_")
    np.testing.assert_allclose(found["fast"], found["slow"], atol=1e-12)


def test_a_draw_has_as_many_users_and_the_seed_decides():
    first = np.concatenate(list(draws(7, 150, seed=3)))
    assert first.shape == (150, 7)
    assert (first.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(first, np.concatenate(list(draws(7, 150, seed=3))))
    assert (first != np.concatenate(list(draws(7, 150, seed=4)))).any()
    assert abs(first.mean() - 1) < 1e-12
    assert (first.std(axis=1) > 0).any()


def test_users_are_drawn_not_rows():
    """Rows copied within their user add nothing; with users of one row each they would."""
    y, p, users = draw()
    once = estimate(binary.brier, y, p, users, seed=2)
    copied = estimate(binary.brier, np.tile(y, 9), np.tile(p, 9), np.tile(users, 9), seed=2)
    assert copied["low"] == pytest.approx(once["low"], abs=1e-12)
    assert copied["high"] == pytest.approx(once["high"], abs=1e-12)
    assert copied["rows"] == 9 * once["rows"]
    split = estimate(binary.brier, np.tile(y, 9), np.tile(p, 9), np.arange(9 * len(y)), seed=2)
    assert split["high"] - split["low"] < (once["high"] - once["low"]) / 2


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Users differ in their mean error: 300 samples of 60 users of 5 rows, the truth is 0.5."""
    r = np.random.default_rng(0)
    hits, users = 0, np.repeat(np.arange(60), 5)
    for seed in range(300):
        errors = r.uniform(0.2, 0.8, 60)[users] + r.uniform(-0.1, 0.1, 300)
        found = estimate(regression.mae, np.zeros(300), errors, users, n=200, seed=seed)
        hits += found["low"] <= 0.5 <= found["high"]
    assert 0.91 <= hits / 300 <= 0.98


def test_difference_of_a_predictor_with_itself_is_exactly_nothing():
    y, p, users = draw()
    for kind, name in [*EVERY, ("binary", "calibration_error_mass")]:
        labels, said = as_kind(kind, y, p)
        found = paired_difference(METRICS[kind][name], labels, said, said.copy(), users)
        assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0), name


def test_paired_difference_is_narrower_than_unpaired_and_has_the_sign():
    y, p, users = draw(n=2000)
    worse = np.clip(p + np.random.default_rng(1).normal(0, 0.1, len(p)), 0, 1)
    found = paired_difference(binary.auc, y, p, worse, users)
    a, b = (estimate(binary.auc, y, q, users) for q in (p, worse))
    assert found["value"] == pytest.approx(a["value"] - b["value"], abs=1e-12)
    assert 0 < found["low"] < found["value"] < found["high"]
    assert found["high"] - found["low"] < (a["high"] - a["low"]) / 2
    back = paired_difference(binary.auc, y, worse, p, users)
    assert back["high"] == pytest.approx(-found["low"], abs=1e-12)


@pytest.mark.parametrize("metric", [binary.auc, binary.log_loss])
def test_share_of_gap_runs_from_floor_to_ceiling(metric):
    y, p, users = draw(n=1500)
    floor = np.clip(0.5 + 0.1 * np.random.default_rng(2).normal(size=len(p)), 0.01, 0.99)
    middle = (p + floor) / 2
    shares = [share_of_gap(metric, y, floor, p, q, users) for q in (floor, middle, p)]
    assert [shares[0][k] for k in ("value", "low", "high")] == [0, 0, 0]
    assert [shares[2][k] for k in ("value", "low", "high")] == [1, 1, 1]
    assert 0 < shares[1]["low"] < shares[1]["value"] < shares[1]["high"] < 1
    assert shares[1]["rows"] == 1500


def test_share_of_no_gap_has_no_value_and_of_an_unsure_gap_no_interval():
    y, p, users = draw()
    same = share_of_gap(binary.auc, y, p, p, p, users)
    assert same["value"] is None
    assert same["why"] == "floor and ceiling are not apart"
    noise = np.random.default_rng(6).random((2, len(y)))
    unsure = share_of_gap(binary.auc, y, noise[0], noise[1], p, users)
    assert unsure["value"] is not None
    assert (unsure["low"], unsure["high"]) == (None, None)
    assert unsure["why"] == "no interval: floor and ceiling are not apart"


def test_one_user_has_a_value_but_no_interval():
    y, p, _ = draw()
    found = estimate(binary.auc, y, p, np.zeros(len(y)))
    assert 0.5 < found["value"] < 1
    assert (found["low"], found["high"]) == (None, None)
    assert "one user" in found["why"]


def test_a_value_that_most_resamples_lack_has_no_interval():
    y, p = np.zeros(300), np.linspace(0, 1, 300)
    y[7] = 1  # in 1 - 1/e of the draws
    found = estimate(binary.auc, y, p, np.arange(300))
    assert found["value"] is not None
    assert found["low"] is None
    assert "of 500 resamples" in found["why"]


def test_undefined_comes_with_why_and_does_not_take_the_others_down():
    y, p, users = draw()
    found = estimates({"auc": binary.auc, "brier": binary.brier}, np.zeros(len(y)), p, users)
    assert found["auc"]["value"] is None
    assert "both classes" in found["auc"]["why"]
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]
    assert list(found) == ["auc", "brier"]
    empty = estimates({"auc": binary.auc}, y[:0], p[:0], users[:0])["auc"]
    assert empty == {"value": None, "low": None, "high": None, "rows": 0, "why": "no labelled rows"}
    assert paired_difference(binary.auc, np.zeros(len(y)), p, p, users)["value"] is None


def test_any_function_of_weighted_rows_can_be_a_metric():
    def median(y, p, w):
        if not w.any():
            raise Undefined("empty")
        return float(np.median(np.repeat(p, w.astype(int))))

    y, p, users = draw()
    found = estimate(RowWeighted("median", median), y, p, users, n=50)
    assert found["low"] <= found["value"] == np.median(p) <= found["high"]


def test_results_do_not_depend_on_the_block_of_draws(monkeypatch):
    y, p, users = draw()
    whole = estimate(AreaUnderCurve(), y, p, users)
    monkeypatch.setattr("mtl_jax.metrics.bootstrap.np.clip", lambda *_: 3)
    assert estimate(AreaUnderCurve(), y, p, users) == whole
