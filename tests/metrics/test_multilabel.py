"""Multi-label metrics against scikit-learn; unknown labels count nowhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mtl_jax.metrics import multilabel
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.registry import METRICS

C = 4


def draw(seed, n=60, levels=8):
    """Labels and probabilities with ties; every label has both classes."""
    r = np.random.default_rng(seed)
    p = r.integers(0, levels + 1, (n, C)) / levels
    y = (r.random((n, C)) < 0.1 + 0.7 * p).astype(float)
    y[0], y[1] = 0.0, 1.0
    return y, p


def f1(average):
    def found(y, p, w):
        return oracle.f1_score(y, p >= 0.5, average=average, sample_weight=w, zero_division=np.nan)

    return found


def auc(average):
    return lambda y, p, w: oracle.roc_auc_score(y, p, average=average, sample_weight=w)


ORACLES = {
    "auc_macro": auc("macro"),
    "auc_micro": auc("micro"),
    "f1_macro": f1("macro"),
    "f1_micro": f1("micro"),
    "subset_accuracy": lambda y, p, w: oracle.accuracy_score(y, p >= 0.5, sample_weight=w),
    "hamming_loss": lambda y, p, w: oracle.hamming_loss(y, p >= 0.5, sample_weight=w),
    "label_ranking_precision": lambda y, p, w: oracle.label_ranking_average_precision_score(
        y, p, sample_weight=w
    ),
}


@pytest.mark.parametrize("name", METRICS["multilabel"])
@given(seed=st.integers(0, 10_000), weighted=st.booleans())
@settings(max_examples=10, deadline=None)
def test_agrees_with_scikit_learn(name, seed, weighted):
    y, p = draw(seed)
    w = np.random.default_rng(seed).integers(1, 4, len(y)) if weighted else None
    got = METRICS["multilabel"][name](y, p, weights=w)
    assert got == pytest.approx(ORACLES[name](y, p, w), abs=1e-9)


@pytest.mark.parametrize("name", METRICS["multilabel"])
def test_an_unknown_label_has_no_influence_and_its_row_still_counts(name):
    y, p = draw(1)
    y[10:30, 2] = np.nan
    metric = METRICS["multilabel"][name]
    plain, other = metric(y, p), p.copy()
    other[10:30, 2] = 1 - other[10:30, 2]
    assert metric(y, other) == plain
    other[10:30, 1] = 1 - other[10:30, 1]
    assert metric(y, other) != plain
    known = np.delete(np.arange(len(y)), np.s_[10:30])
    whole = METRICS["multilabel"][name](y[known], p[known])
    assert plain != whole


def test_means_are_over_known_labels():
    y = np.array([[1, np.nan, 0], [np.nan, np.nan, 1]])
    p = np.array([[0.9, 0.9, 0.7], [0.1, 0.9, 0.6]])
    assert multilabel.hamming_loss(y, p) == pytest.approx(1 / 3)
    assert multilabel.subset_accuracy(y, p) == 0.5
    assert multilabel.f1_micro(y, p) == pytest.approx(2 * 2 / (3 + 2))
    assert multilabel.label_ranking_precision(y, p) == 1.0


def test_a_label_of_one_class_is_left_out_of_the_macro_area():
    y, p = draw(2)
    y[:, 3] = 1.0
    by_hand = np.mean([oracle.roc_auc_score(y[:, c], p[:, c]) for c in range(3)])
    assert multilabel.auc_macro(y, p) == pytest.approx(by_hand, abs=1e-12)
    with pytest.raises(Undefined, match="both classes"):
        multilabel.auc_macro(np.ones_like(y), p)


def test_labels_that_are_no_labels_are_refused():
    y, p = draw(3)
    y[5, 2] = -1.0
    with pytest.raises(ValueError, match=r"label 2 of row 5 is -1\.0"):
        multilabel.f1_micro(y, p)
    with pytest.raises(ValueError, match=r"both \[N, C\]"):
        multilabel.f1_micro(y[:, 0], p[:, 0])
