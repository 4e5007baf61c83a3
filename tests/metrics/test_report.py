"""The layout of metrics.json: slices, nulls, and no NaN."""

import json

import numpy as np
import pytest

from mtl_jax.metrics import binary
from mtl_jax.metrics.ranks import Ranks
from mtl_jax.metrics.report import evaluate_ranking, evaluate_task, mean_entries


def draw(n=300):
    r = np.random.default_rng(0)
    p = r.random(n)
    return (r.random(n) < p).astype(float), p, r.integers(0, 20, n)


def keys_are_right(entry):
    assert {"value", "low", "high", "rows"} <= set(entry) <= {
        "value", "low", "high", "rows", "why", "note",
    }  # fmt: skip
    for key in ("value", "low", "high"):
        assert entry[key] is None or (type(entry[key]) is float and np.isfinite(entry[key]))
    assert type(entry["rows"]) is int
    assert ("why" in entry) or None not in entry.values()


def test_slices_are_the_metric_on_their_rows_and_missing_labels_are_out():
    y, p, users = draw()
    y[::3] = np.nan
    cold = users < 4
    found = evaluate_task("binary", y, p, users, {"cold_user": cold})
    assert list(found) == ["all", "cold_user"]
    rows = cold & ~np.isnan(y)
    assert found["cold_user"]["auc"]["value"] == binary.auc(y[rows], p[rows])
    assert found["cold_user"]["auc"]["rows"] == rows.sum()
    assert found["all"]["brier"]["rows"] == (~np.isnan(y)).sum()
    for entries in found.values():
        for entry in entries.values():
            keys_are_right(entry)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_labels_missing_everywhere_give_nulls_that_json_can_hold(kind):
    y, p, users = draw()
    p = np.stack([p, 1 - p], axis=1) if kind == "multiclass" else p
    found = evaluate_task(kind, np.full(len(y), np.nan), p, users, {"none": users < 0})
    for entries in found.values():
        for entry in entries.values():
            assert entry["value"] is None
            assert entry["why"] == "no labelled rows"
    assert json.loads(json.dumps({"valid": {"like": found}}, allow_nan=False))


def test_one_class_is_null_with_a_reason_where_it_must_be_and_only_there():
    y, p, users = draw()
    found = evaluate_task("binary", np.ones(len(y)), p, users)["all"]
    json.dumps(found, allow_nan=False)
    assert {name for name, entry in found.items() if entry["value"] is None} == {
        "auc",
        "grouped_auc",
    }
    assert "both classes" in found["auc"]["why"]
    assert found["grouped_auc"]["rows"] == 0


def test_grouped_auc_says_who_is_left_out():
    y, p, users = draw()
    y[users == 3] = 0
    entry = evaluate_task("binary", y, p, users)["all"]["grouped_auc"]
    assert entry["note"] == "1 of 20 users have rows of one class and are left out"
    assert entry["rows"] == (users != 3).sum()


def test_a_row_counts_where_one_of_its_labels_is_known():
    y, p, users = draw()
    both = np.stack([y, y], 1)
    both[::2, 1] = both[::3] = np.nan
    found = evaluate_task("multilabel", both, np.stack([p, p], 1), users)["all"]
    assert {entry["rows"] for entry in found.values()} == {200}
    assert found["hamming_loss"]["value"] == np.nanmean(
        np.where(np.isnan(both), np.nan, both != (p >= 0.5)[:, None])
    )


def test_integer_labels_and_multiclass():
    r = np.random.default_rng(1)
    p = r.dirichlet(np.ones(4), 90)
    found = evaluate_task("multiclass", p.argmax(1), p, r.integers(0, 9, 90))["all"]
    assert found["accuracy"]["value"] == 1.0
    assert found["f1_macro"]["low"] == 1.0


def test_ranking_values_are_means_over_queries_by_slice():
    ranks, users = np.array([1.0, 2, 30, np.inf]), np.array([0, 0, 1, 2])
    slices = {"first": users == 0, "nobody": users > 5}
    found = evaluate_ranking(ranks, users, slices, ks=(1, 10))
    assert found["all"]["recall@1"]["value"] == 0.25
    assert found["all"]["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 30) / 4)
    assert found["all"]["mrr@10"]["value"] == pytest.approx(1.5 / 4)
    assert found["first"]["ndcg@10"]["value"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found["first"]["ndcg@10"]["low"] is None
    assert found["nobody"]["map@1"]["why"] == "no queries with a relevant item"
    assert set(found["all"]) == {"mrr"} | {
        f"{m}@{k}" for m in ("recall", "ndcg", "mrr", "hit_rate", "map") for k in (1, 10)
    }
    for entries in found.values():
        for entry in entries.values():
            keys_are_right(entry)


def test_queries_without_relevant_items_do_not_count():
    ranks = Ranks(np.array([0, 1, 1, 3]), np.array([1.0, 2.0, 40.0]))
    found = evaluate_ranking(ranks, np.array([1, 2, 3]), ks=(10,))["all"]["recall@10"]
    assert (found["value"], found["rows"]) == (0.75, 2)


def test_mean_intervals_shrink_with_users():
    values = np.random.default_rng(0).random(4000)
    few, many = (mean_entries({"m": values}, np.arange(4000) % n, seed=1)["m"] for n in (10, 4000))
    assert few["value"] == many["value"]
    assert many["low"] < many["value"] < many["high"]


@pytest.mark.parametrize("mask", [np.ones(3, bool), np.ones(300, int)])
def test_a_slice_must_be_a_mask_of_the_rows(mask):
    y, p, users = draw()
    with pytest.raises(ValueError, match="slice odd is no bool mask of the 300 rows"):
        evaluate_task("binary", y, p, users, {"odd": mask})
