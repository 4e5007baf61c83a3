"""Every metric has a direction, and a direction a metric."""

import numpy as np
import pytest

from mtl_jax.metrics.registry import HIGHER_IS_BETTER, METRICS, RANKING, higher_is_better


def test_directions_are_of_the_metrics_there_are():
    names = {name for metrics in METRICS.values() for name in metrics} | set(RANKING)
    assert set(HIGHER_IS_BETTER) == names
    assert higher_is_better("ndcg@10")
    assert not higher_is_better("rmse")
    with pytest.raises(KeyError):
        higher_is_better("rsme")


@pytest.mark.parametrize("kind", METRICS)
def test_truth_beats_its_opposite_in_the_stated_direction(kind):
    r = np.random.default_rng(0)
    y = r.integers(0, 2, 200)
    noise = r.uniform(0.0, 0.45, 200)
    good = np.abs(y - noise)
    users = r.integers(0, 5, 200)
    for name, metric in METRICS[kind].items():
        a, b, truth = good, 1 - good, y
        if kind in ("multiclass", "ordinal"):
            a, b = (np.pad(np.stack([1 - p, p], 1), ((0, 0), (0, 4))) for p in (a, b))
        if kind == "multilabel":
            a, b, truth = (np.stack([v, 1 - v], 1) for v in (a, b, y))
        better, worse = (metric(truth, p, users=users) for p in (a, b))
        assert name.startswith("top_") or (better > worse) == higher_is_better(name), name
        assert metric.name == name


def test_names_of_metrics_are_their_keys():
    for metrics in METRICS.values():
        assert [metric.name for metric in metrics.values()] == list(metrics)
