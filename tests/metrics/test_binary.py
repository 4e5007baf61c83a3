"""Binary metrics against scikit-learn, and what every weighted metric must obey."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from mtl_jax.metrics import binary
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.registry import METRICS


def draw(seed, n=200, levels=12):
    """Labels, tied probabilities and users; low `levels` means many ties."""
    r = np.random.default_rng(seed)
    p = r.integers(0, levels + 1, n) / levels
    return (r.random(n) < 0.2 + 0.6 * p).astype(float), p, r.integers(0, 9, n)


sample = st.integers(0, 10_000)
weights_of = lambda seed, n: np.random.default_rng(seed + 1).integers(0, 4, n)  # noqa: E731

ORACLES = {
    "auc": lambda y, p, w: oracle.roc_auc_score(y, p, sample_weight=w),
    "log_loss": lambda y, p, w: oracle.log_loss(y, p, sample_weight=w),
    "brier": lambda y, p, w: oracle.brier_score_loss(y, p, sample_weight=w),
    "accuracy": lambda y, p, w: oracle.accuracy_score(y, p >= 0.5, sample_weight=w),
    "precision": lambda y, p, w: oracle.precision_score(y, p >= 0.5, sample_weight=w),
    "recall": lambda y, p, w: oracle.recall_score(y, p >= 0.5, sample_weight=w),
    "f1": lambda y, p, w: oracle.f1_score(y, p >= 0.5, sample_weight=w),
}


@pytest.mark.parametrize("name", ORACLES)
@given(seed=sample, weighted=st.booleans())
@settings(max_examples=25, deadline=None)
def test_agrees_with_scikit_learn(name, seed, weighted):
    y, p, _ = draw(seed)
    w = weights_of(seed, len(y)) if weighted else None
    got = METRICS["binary"][name](y, p, weights=w)
    assert got == pytest.approx(ORACLES[name](y, p, w), abs=1e-9)


@pytest.mark.parametrize("name", METRICS["binary"])
@given(seed=sample)
@settings(max_examples=25, deadline=None)
def test_integer_weights_are_repetition(name, seed):
    y, p, users = draw(seed, n=80)
    w = weights_of(seed, len(y))
    metric, again = METRICS["binary"][name], np.repeat(np.arange(len(y)), w)
    repeated = metric(y[again], p[again], users=users[again])
    assert metric(y, p, weights=w, users=users) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", METRICS["binary"])
@given(seed=sample)
@settings(max_examples=25, deadline=None)
def test_order_of_rows_does_not_matter(name, seed):
    y, p, users = draw(seed, n=80)
    order = np.random.default_rng(seed).permutation(len(y))
    metric = METRICS["binary"][name]
    shuffled = metric(y[order], p[order], users=users[order])
    assert metric(y, p, users=users) == pytest.approx(shuffled, abs=1e-12)


@given(seed=sample)
@settings(max_examples=25, deadline=None)
def test_auc_sees_order_only_and_flips(seed):
    y, p, _ = draw(seed)
    assert binary.auc(y, 100 * p**3 - 7) == binary.auc(y, p)
    assert binary.auc(y, -p) == pytest.approx(1 - binary.auc(y, p), abs=1e-12)
    assert binary.auc(y, np.zeros(len(y))) == 0.5


@pytest.mark.parametrize("weighted", [False, True])
def test_grouped_auc_is_the_loop_over_users(weighted):
    y, p, users = draw(3, n=300, levels=6)
    y[users == 2], y[users == 5] = 1.0, 0.0  # two users of one class
    w = np.random.default_rng(0).random(300) if weighted else np.ones(300)
    areas, rows = [], []
    for user in set(users.tolist()) - {2, 5}:
        mine = users == user
        areas.append(oracle.roc_auc_score(y[mine], p[mine], sample_weight=w[mine]))
        rows.append(w[mine].sum())
    got = binary.grouped_auc(y, p, weights=w if weighted else None, users=users)
    assert got == pytest.approx(np.average(areas, weights=rows), abs=1e-9)
    counted, note = binary.grouped_auc.counted(y, users, 9)
    assert counted == np.isin(users, [2, 5], invert=True).sum()
    assert note == "2 of 9 users have rows of one class and are left out"


def test_grouped_auc_takes_any_users_and_needs_them():
    y, p, users = draw(4)
    names = np.array([f"u{user}" for user in users])
    assert binary.grouped_auc(y, p, users=names) == binary.grouped_auc(y, p, users=users)
    with pytest.raises(ValueError, match="needs users"):
        binary.grouped_auc(y, p)


@pytest.mark.parametrize(
    ("metric", "strategy"),
    [(binary.calibration_error, "uniform"), (binary.calibration_error_mass, "quantile")],
)
def test_calibration_bins_are_scikit_learns(metric, strategy):
    r = np.random.default_rng(1)
    p = r.random(1500) ** 2  # no ties, 1500 = 15 bins of 100
    y = (r.random(1500) < p**1.3).astype(float)
    true, said = calibration_curve(y, p, n_bins=15, strategy=strategy)
    if strategy == "uniform":
        rows = np.histogram(p, np.linspace(0, 1, 16))[0]
    else:
        rows = np.full(15, 100)
    expected = np.sum(rows * np.abs(true - said)) / 1500
    assert metric(y, p) == pytest.approx(expected, abs=1e-9)


def test_values_on_an_edge_fall_into_the_lower_bin_as_scikit_learns():
    p = np.linspace(0, 1, 16)
    np.testing.assert_array_equal(binary.equal_width(p), np.maximum(np.arange(16) - 1, 0))
    y = np.array([0.0, 1.0] * 8)
    true, _ = calibration_curve(y, p, n_bins=15)
    assert true[0] == 0.5  # 0 and 1/15 share the first bin


def test_tied_values_share_the_bin_of_their_middle():
    p = np.array([0.1, 0.1, 0.9, 0.9])
    assert binary.equal_mass(p, np.ones(4)).tolist() == [3, 3, 11, 11]  # 15 * 1/4, 15 * 3/4


def test_calibration_of_the_truth_is_small_and_of_a_constant_is_its_gap():
    y = np.array([1.0, 0, 0, 0])
    for metric in (binary.calibration_error, binary.calibration_error_mass):
        assert metric(y, np.full(4, 0.25)) == pytest.approx(0)
        assert metric(y, np.full(4, 0.75)) == pytest.approx(0.5)


def test_log_loss_clips_at_the_stated_value():
    assert binary.log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(36.0436534)


@pytest.mark.parametrize("y", [np.zeros(5), np.ones(5), np.empty(0)])
@pytest.mark.parametrize("name", ["auc", "grouped_auc"])
def test_one_class_is_undefined(name, y):
    with pytest.raises(Undefined, match=name):
        METRICS["binary"][name](y, np.linspace(0, 1, len(y)), users=np.arange(len(y)))


def test_undefined_ratios_say_why():
    with pytest.raises(Undefined, match="probability of at least"):
        binary.precision(np.ones(3), np.zeros(3))
    with pytest.raises(Undefined, match="positive class"):
        binary.recall(np.zeros(3), np.ones(3))
    with pytest.raises(Undefined, match="no rows with weight"):
        binary.accuracy(np.ones(3), np.ones(3), weights=np.zeros(3))


@pytest.mark.parametrize(
    ("y", "p", "says"),
    [
        ([0, 2, 1], [0.1, 0.2, 0.3], "label of row 1 is 2"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], "label of row 2 is NaN"),
        ([0, 1, 1], [0.1, np.nan, 0.3], "prediction of row 1 is NaN"),
        ([0, 1, 1], [0.1, 0.2, 1.3], "prediction of row 2 is 1.3, not a probability"),
    ],
)
def test_refuses_what_cannot_be(y, p, says):
    with pytest.raises(ValueError, match=says):
        binary.log_loss(np.array(y, float), np.array(p))


@pytest.mark.parametrize("w", [[1, -1], [1, np.inf], [1, 1, 1]])
def test_refuses_bad_weights(w):
    with pytest.raises(ValueError, match="weights"):
        binary.auc(np.array([0, 1]), np.array([0.1, 0.2]), weights=np.array(w))


def test_no_warning_leaks_from_undefined_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Undefined):
            binary.grouped_auc(np.ones(4), np.arange(4) / 4, users=np.arange(4))


@pytest.mark.parametrize("name", [n for n in METRICS["binary"] if n not in ("brier",)])
@given(seed=sample)
@settings(max_examples=10, deadline=None)
def test_a_soft_label_is_a_part_of_a_row_in_either_class(name, seed):
    r = np.random.default_rng(seed)
    _, p, users = draw(seed, n=60)
    y = r.choice([0.0, 0.25, 0.5, 0.75, 1.0], 60)
    w = r.integers(1, 4, 60)
    both = np.concatenate([np.ones(60), np.zeros(60)])
    parts = np.concatenate([w * y, w * (1 - y)])
    metric = METRICS["binary"][name]
    twice = metric(both, np.tile(p, 2), weights=parts, users=np.tile(users, 2))
    assert metric(y, p, weights=w, users=users) == pytest.approx(twice, abs=1e-12)


def test_brier_of_soft_labels_is_the_distance_to_them():
    y, p = np.array([0.2, 0.9, 1.0]), np.array([0.2, 0.4, 0.0])
    assert binary.brier(y, p) == pytest.approx((0.0 + 0.25 + 1.0) / 3)
    with pytest.raises(ValueError, match=r"label of row 1 is 1\.5"):
        binary.brier(np.array([0.2, 1.5, 1.0]), p)
