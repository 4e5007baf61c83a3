"""Ordinal metrics against scikit-learn and the definitions as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mtl_jax.metrics import ordinal
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.registry import METRICS

C = 5


def draw(seed, n=70):
    r = np.random.default_rng(seed)
    p = r.dirichlet(np.full(C, 0.6), n)
    return np.array([r.choice(C, p=row) for row in p]), p


def median(row):
    return next(k for k in range(C) if row[: k + 1].sum() >= 0.5)


def ranked(y, row):
    return np.mean([(row[: k + 1].sum() - (y <= k)) ** 2 for k in range(C - 1)])


def rows(f):
    return lambda y, p, w: np.average([f(a, row) for a, row in zip(y, p, strict=True)], weights=w)


ORACLES = {
    "accuracy": lambda y, p, w: oracle.accuracy_score(y, p.argmax(1), sample_weight=w),
    "mae": rows(lambda y, row: abs(sum(k * q for k, q in enumerate(row)) - y)),
    "mae_median": rows(lambda y, row: abs(median(row) - y)),
    "quadratic_kappa": lambda y, p, w: oracle.cohen_kappa_score(
        y, p.argmax(1), weights="quadratic", sample_weight=w
    ),
    "ranked_probability_score": rows(ranked),
    "log_loss": lambda y, p, w: oracle.log_loss(y, p, sample_weight=w, labels=np.arange(C)),
}


@pytest.mark.parametrize("name", METRICS["ordinal"])
@given(seed=st.integers(0, 10_000), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_agrees_with_its_definition(name, seed, weighted):
    y, p = draw(seed)
    w = np.random.default_rng(seed).integers(1, 4, len(y)) if weighted else None
    got = METRICS["ordinal"][name](y, p, weights=w)
    assert got == pytest.approx(ORACLES[name](y, p, w), abs=1e-9)


def test_a_miss_by_more_levels_costs_more_where_accuracy_sees_none():
    y = np.array([0, 1, 2, 3, 4])
    near, far = (np.eye(C)[(y + step) % C] for step in (1, 3))
    for name in ("mae", "mae_median", "ranked_probability_score"):
        metric = METRICS["ordinal"][name]
        assert metric(y, near) < metric(y, far), name
    assert ordinal.quadratic_kappa(y, near) > ordinal.quadratic_kappa(y, far)
    assert ordinal.accuracy(y, near) == ordinal.accuracy(y, far) == 0


def test_kappa_of_one_level_throughout_is_undefined():
    with pytest.raises(Undefined, match="one level"):
        ordinal.quadratic_kappa(np.full(7, 2), np.eye(C)[np.full(7, 2)])
