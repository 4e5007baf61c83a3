"""Multi-class metrics and the classification report against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mtl_jax.metrics import multiclass
from mtl_jax.metrics.registry import METRICS

C = 5


def draw(seed, n=120):
    r = np.random.default_rng(seed)
    p = r.dirichlet(np.full(C, 0.5), n)
    y = np.array([r.choice(C - 1, p=row[:-1] / row[:-1].sum()) for row in p])  # class 4 only said
    return y, p


def f1(average):
    return lambda y, p, w: oracle.f1_score(y, p.argmax(1), average=average, sample_weight=w)


def top(k):
    return lambda y, p, w: oracle.top_k_accuracy_score(
        y, p, k=k, sample_weight=w, labels=np.arange(C)
    )


ORACLES = {
    "accuracy": lambda y, p, w: oracle.accuracy_score(y, p.argmax(1), sample_weight=w),
    "f1_macro": f1("macro"),
    "f1_micro": f1("micro"),
    "f1_weighted": f1("weighted"),
    "log_loss": lambda y, p, w: oracle.log_loss(y, p, sample_weight=w, labels=np.arange(C)),
    "top_3": top(3),
}


@pytest.mark.parametrize("name", ORACLES)
@given(seed=st.integers(0, 10_000), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_agrees_with_scikit_learn(name, seed, weighted):
    y, p = draw(seed)
    # positive weights: scikit-learn counts a class of weight 0 as occurring
    w = np.random.default_rng(seed).integers(1, 4, len(y)) if weighted else None
    got = METRICS["multiclass"][name](y, p, weights=w)
    assert got == pytest.approx(ORACLES[name](y, p, w), abs=1e-9)


@pytest.mark.parametrize("name", METRICS["multiclass"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_integer_weights_are_repetition_in_any_order(name, seed):
    y, p = draw(seed, 40)
    r = np.random.default_rng(seed)
    w = r.integers(0, 3, len(y))
    again = r.permutation(np.repeat(np.arange(len(y)), w))
    metric = METRICS["multiclass"][name]
    assert metric(y, p, weights=w) == pytest.approx(metric(y[again], p[again]), abs=1e-12)


def test_top_k_averages_ties():
    p = np.array([[0.4, 0.2, 0.2, 0.2]])  # the three share ranks 2, 3, 4: mean 3
    assert multiclass.top_k(2)(np.array([2]), p) == 0
    assert multiclass.top_k(3)(np.array([2]), p) == 1
    assert multiclass.top_k(1)(np.array([0]), p) == 1


@pytest.mark.parametrize("names", [None, ["a", "bb", "none of these", "d", "e"]])
@pytest.mark.parametrize("weighted", [False, True])
def test_report_is_scikit_learns(names, weighted):
    y, p = draw(1)
    y, said = np.where(y == 2, 0, y), p.argmax(1)
    said = np.where(said == 2, 0, said)  # class 2 occurs nowhere
    w = np.random.default_rng(0).random(len(y)) + 0.1 if weighted else None
    extra = {"labels": np.arange(C), "target_names": names} if names else {}
    options = {"sample_weight": w, "zero_division": 0, **extra}
    want = oracle.classification_report(y, said, output_dict=True, **options)
    got = multiclass.classification_report(y, said, names, w)
    summary = {"macro avg", "weighted avg", "accuracy"}
    assert list(got) == [key for key in want if key not in summary] + [
        "accuracy",
        "macro avg",
        "weighted avg",
    ]
    if names:  # with `labels` scikit-learn prints the micro average, equal to the accuracy
        want.setdefault("accuracy", want.get("micro avg", {}).get("f1-score"))
    assert got["accuracy"] == pytest.approx(want["accuracy"], abs=1e-9)
    for key in set(got) - {"accuracy"}:
        assert got[key] == pytest.approx(want[key], abs=1e-9)


def test_report_text_reads_as_scikit_learns():
    y, p = draw(2)
    said = p.argmax(1)
    want = oracle.classification_report(y, said, zero_division=0).split()
    assert multiclass.report_text(multiclass.classification_report(y, said)).split() == want


def test_refuses_unknown_classes_and_flat_predictions():
    with pytest.raises(ValueError, match=r"label of row 1 is 3.0, classes are 0\.\.2"):
        multiclass.accuracy(np.array([0, 3]), np.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"label of row 0 is 0\.5"):
        multiclass.accuracy(np.array([0.5]), np.full((1, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"shape \[N, C\]"):
        multiclass.accuracy(np.array([0, 1]), np.array([0.2, 0.3]))
