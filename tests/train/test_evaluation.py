"""Metrics of a part from given predictions: one-class labels, missing labels, slices."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.pipeline import rows_of
from mtl_jax.job import label_stats
from mtl_jax.train.evaluation import evaluate, slices_of, to_prediction
from worlds import assembler_of, small_data

BUY = TaskSpec("buy", "binary", "buy")
RATING = TaskSpec("rating", "regression", "rating", low=1.0, high=5.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Every purchase that is known was made; a label `never` nobody ever had."""
    folder = tmp_path_factory.mktemp("one-class")
    one = pl.when(pl.col("buy").is_null()).then(None).otherwise(1.0)
    return small_data(folder, buy=one)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return small_data(tmp_path_factory.mktemp("empty"), buy=pl.lit(None, pl.Float64))


def stub(assembler, value=0.25):
    """An evaluator that predicts `value` for every row."""

    def predict(params, tables, index):
        values = {t.name: value if t.kind == "regression" else 0.25 for t in assembler.tasks}
        return {name: np.full(len(index), v, np.float32) for name, v in values.items()}

    model = SimpleNamespace(tasks=assembler.tasks)
    return SimpleNamespace(assembler=assembler, model=model, predict=predict, check=lambda: None)


def test_a_label_of_one_class_gives_null_with_a_reason(data):
    assembler = assembler_of(data, tasks=(BUY, RATING))
    results, _, _ = evaluate(stub(assembler), None, None, "valid", replicates=5)
    entry = results["buy"]["all"]["auc"]
    assert entry["value"] is None
    assert "class" in entry["why"]
    assert np.isclose(results["buy"]["all"]["log_loss"]["value"], -np.log(0.25), atol=1e-6)


def test_heads_start_finite_where_a_label_has_one_class(data):
    found = label_stats(assembler_of(data, tasks=(BUY,)))
    assert np.isclose(found["buy"].mean, np.log((1 - 1e-4) / 1e-4))


def test_a_task_without_any_label_is_refused(empty):
    with pytest.raises(UserError, match="task 'buy': no training row has a label 'buy'"):
        label_stats(assembler_of(empty, tasks=(BUY, RATING)))


def test_rows_without_a_label_do_not_count(data):
    assembler = assembler_of(data, tasks=(BUY, RATING))
    index = rows_of(assembler, "valid")
    results, predictions, kept = evaluate(stub(assembler, 3.0), None, None, "valid", 0)
    y = np.asarray(data.events["label_rating"][index], np.float64)
    known = np.isfinite(y)
    assert 0 < known.sum() < len(y)
    entry = results["rating"]["all"]["rmse"]
    assert entry["rows"] == known.sum()
    assert np.isclose(entry["value"], np.sqrt(np.mean((y[known] - 3.0) ** 2)))
    np.testing.assert_array_equal(kept, index)
    assert len(predictions["rating"]) == len(index)


def test_some_rows_are_spread_evenly_over_time(data):
    assembler = assembler_of(data, tasks=(RATING,))
    index = rows_of(assembler, "train")
    _, _, kept = evaluate(stub(assembler), None, None, "train", 0, rows=7)
    assert len(kept) == 7
    assert (kept[0], kept[-1]) == (index[0], index[-1])
    assert set(kept) <= set(index)


def test_where_all_rows_are_of_one_user_intervals_are_by_rows(data):
    events = {**data.events, "user": np.ones(len(data.events["user"]), np.int32)}
    alone = assembler_of(replace(data, events=events), tasks=(RATING,))
    results, _, _ = evaluate(stub(alone, 3.0), None, None, "valid", replicates=50)
    entry = results["rating"]["all"]["rmse"]
    assert entry["low"] < entry["value"] < entry["high"]


def test_slices_are_by_what_was_trained_on(data):
    assembler = assembler_of(data, tasks=(RATING,))
    index = np.flatnonzero(np.asarray(data.events["split"]) > 0)
    found = slices_of(assembler, index)
    warm = np.asarray(data.items["warm"])[data.events["item"][index]]
    np.testing.assert_array_equal(found["warm_item"], warm)
    assert ("cold_item" in found) == (not warm.all()), "no slice is empty"


def test_predictions_are_probabilities_and_values_in_their_range():
    x = np.array([-3.0, 0.0, 9.0], np.float32)
    np.testing.assert_allclose(to_prediction(BUY, x), 1 / (1 + np.exp(-x)), rtol=1e-5)
    np.testing.assert_array_equal(to_prediction(RATING, x), [1.0, 1.0, 5.0])
    soft = to_prediction(TaskSpec("c", "multiclass", "c", classes=3), x)
    np.testing.assert_allclose(soft, np.exp(x) / np.exp(x).sum(), rtol=1e-5)
