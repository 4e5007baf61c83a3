"""Labels and masks of tasks; a missing label is never a zero."""

from dataclasses import replace

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.labels import check_tasks, event_labels, item_labels
from mtl_jax.data.prepare import prepare_raw
from mtl_jax.data.prepared import open_prepared
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
