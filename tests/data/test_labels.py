"""Labels and masks of tasks; a missing label is never a zero."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.labels import check_tasks, class_counts, event_labels, item_labels
from mtl_jax.data.prepare import prepare_raw
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.schema import Label
from worlds import world_data


@pytest.fixture(scope="module")
def data(shared_folder):
    return world_data(shared_folder)


@pytest.fixture
def tagged(raw, config):
    """The tiny tables of code: they have tags."""
    return open_prepared(prepare_raw(raw, config))


def label(data, name, kind="binary", index=None, **options):
    index = np.arange(len(data.events["user"])) if index is None else index
    return event_labels(data, (TaskSpec("t", kind, name, **options),), index)["t"]


def test_a_missing_label_is_masked_and_not_zero(data):
    raw = np.asarray(data.events["label_rating"])
    y, mask = label(data, "rating", "regression")
    assert 0 < mask.sum() < len(mask)
    np.testing.assert_array_equal(mask > 0, np.isfinite(raw))
    np.testing.assert_array_equal(y[mask > 0], raw[mask > 0])
    assert np.isfinite(y).all()


def test_retrieval_takes_positive_rows_only(data):
    raw = np.asarray(data.events["label_click"])
    _, mask = label(data, "click", "retrieval")
    np.testing.assert_array_equal(mask > 0, raw == 1)


def test_interest_is_the_categories_of_the_next_positives(data):
    classes = data.schema.n_categories
    y, mask = label(data, "interest", "multiclass", level="user", classes=classes)
    following = np.asarray(data.events["next_items"])
    category = np.asarray(data.items[f"cat_{data.schema.category}"])
    for row in np.linspace(0, len(y) - 1, 50).astype(int):
        real = following[row][following[row] > 0]
        counts = np.bincount(category[real], minlength=classes)
        assert mask[row] == (len(real) > 0)
        np.testing.assert_allclose(y[row], counts / max(len(real), 1), rtol=1e-6)


def test_content_is_the_category_of_each_item_and_nothing_for_padding(data):
    ids = np.array([[0, 3, 7], [1, 0, 0]])
    found = item_labels(data, TaskSpec("c", "multiclass", "category", level="item"), ids)
    category = np.asarray(data.items[f"cat_{data.schema.category}"])
    np.testing.assert_array_equal(found["label/c"], category[ids])
    np.testing.assert_array_equal(found["mask/c"], category[ids] > 0)
    assert found["mask/c"][0, 0] == 0


def test_tags_are_shared_out_evenly(tagged):
    task = TaskSpec("t", "multiclass", "tags", level="item", classes=tagged.schema.n_tags)
    ids = np.arange(tagged.schema.n_items)
    found = item_labels(tagged, task, ids)
    tags = np.asarray(tagged.items["tags"])
    for i in ids:
        real = tags[i][tags[i] > 0]
        assert found["mask/t"][i] == (len(real) > 0)
        np.testing.assert_allclose(found["label/t"][i][real], 1 / max(len(real), 1))
        assert np.isclose(found["label/t"][i].sum(), len(real) > 0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TaskSpec("t", "binary", "clik"), "no label 'clik'. Did you mean 'click'?"),
        (TaskSpec("t", "binary", "rating"), "kind 'binary' needs a 0/1 label, 'rating' is a value"),
        (TaskSpec("t", "retrieval", "rating"), "kind 'retrieval' needs a 0/1 label"),
        (TaskSpec("t", "multiclass", "click"), "needs classes of at least 2"),
        (TaskSpec("t", "multiclass", "category", classes=99), "classes=99, but category has"),
        (TaskSpec("t", "multiclass", "tags", classes=9), "classes=9, but tags has 0 there"),
        (TaskSpec("t", "multilabel", labels=("click", "rating")), "'rating' is a value"),
        (TaskSpec("t", "multilabel", labels=("click", "bye")), "no label 'bye'"),
        (TaskSpec("t", "binary", "click", level="item"), "items have no label 'click'"),
        (TaskSpec("t", "similarity", "rating"), "needs a 0/1 label, 'rating' is a value"),
        (TaskSpec("t", "similarity", "click"), "how='cosine' needs a column `other`"),
        (
            TaskSpec("t", "ordinal", "rating", low=1.0, high=4.0),
            "is 5; kind 'ordinal' takes the whole numbers from 1 to 4",
        ),
        (
            TaskSpec("t", "ordinal", "log_dwell", low=0.0, high=9.0),
            "kind 'ordinal' takes the whole numbers from 0 to 9",
        ),
        (TaskSpec("t", "multiclass", "rating", classes=5), "numbers from 0 to 4"),
    ],
)
def test_tasks_that_the_data_cannot_serve_are_refused(data, task, message):
    with pytest.raises(UserError) as error:
        check_tasks(data, (task,))
    assert message in str(error.value)
    assert str(data.folder) in str(error.value)


def test_two_tasks_of_one_name_are_refused(data):
    task = TaskSpec("t", "binary", "click")
    check_tasks(data, (task, replace(task, name="u")))
    with pytest.raises(UserError, match="equal names"):
        check_tasks(data, (task, task))


def test_several_labels_are_masked_one_by_one(tagged):
    task = TaskSpec("t", "multilabel", labels=("click", "buy"))
    index = np.arange(len(tagged.events["user"]))
    y, mask = event_labels(tagged, (task,), index)["t"]
    raw = np.stack([tagged.events["label_click"], tagged.events["label_buy"]], 1)
    assert 0 < np.isnan(raw[:, 1]).sum() < len(raw)
    np.testing.assert_array_equal(y, np.where(np.isnan(raw), -1, raw))
    assert mask.all(), "a click is known of every row"
    _, only = event_labels(tagged, (replace(task, labels=("buy",)),), index)["t"]
    np.testing.assert_array_equal(only > 0, np.isfinite(raw[:, 1]))


def test_levels_count_from_0(tagged):
    task = TaskSpec("t", "ordinal", "rating", low=1.0, high=5.0)
    check_tasks(tagged, (task,))
    index = np.arange(len(tagged.events["user"]))
    y, mask = event_labels(tagged, (task,), index)["t"]
    raw = np.asarray(tagged.events["label_rating"])
    np.testing.assert_array_equal(y[mask > 0], raw[np.isfinite(raw)] - 1)
    assert (y[mask == 0] == 0).all()


def test_tags_as_several_labels(tagged):
    task = TaskSpec("t", "multilabel", "tags", level="item", classes=tagged.schema.n_tags)
    check_tasks(tagged, (task,))
    with pytest.raises(UserError, match="tags are of items"):
        check_tasks(tagged, (replace(task, level="event"),))
    ids = np.arange(tagged.schema.n_items)
    found = item_labels(tagged, task, ids)
    assert (found["label/t"][:, 0] == -1).all()
    for i in ids:
        real = np.asarray(tagged.items["tags"])[i]
        real = real[real > 0]
        np.testing.assert_array_equal(np.flatnonzero(found["label/t"][i] == 1), real)
        assert found["mask/t"][i] == (len(real) > 0)


def test_counts_of_classes_are_of_the_rows_given(tagged):
    index = np.arange(0, len(tagged.events["user"]), 2)
    count = lambda *a, **k: class_counts(tagged, TaskSpec("t", *a, **k), index)  # noqa: E731
    click, buy, rating = (
        np.asarray(tagged.events[f"label_{n}"])[index] for n in ("click", "buy", "rating")
    )
    two = [[(v == 0).sum(), (v == 1).sum()] for v in (click, buy)]
    np.testing.assert_array_equal(count("binary", "buy"), two[1])
    np.testing.assert_array_equal(count("multilabel", labels=("click", "buy")), two)
    five = [(rating == level).sum() for level in range(1, 6)]
    np.testing.assert_array_equal(count("ordinal", "rating", low=1.0, high=5.0), five)


def test_probabilities_are_labels_where_they_are_declared(raw, config):
    soft = Label("sure", "value", 0.0, 1.0)
    columns = replace(raw.columns, labels=(*raw.columns.labels, soft))
    values = pl.Series(np.linspace(0, 1, raw.events.height))
    raw = replace(raw, columns=columns, events=raw.events.with_columns(sure=values))
    data = open_prepared(prepare_raw(raw, config))
    task = TaskSpec("t", "binary", "sure")
    check_tasks(data, (task,))
    y, mask = label(data, "sure")
    assert mask.all()
    assert len(np.unique(y)) > 50
    counts = class_counts(data, task, np.arange(len(y)))
    np.testing.assert_allclose(counts, [(1 - y).sum(), y.sum()], rtol=1e-5)
    with pytest.raises(UserError, match="kind 'retrieval' needs a 0/1 label"):
        check_tasks(data, (TaskSpec("t", "retrieval", "sure"),))
