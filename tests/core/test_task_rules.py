"""Fields of a task that contradict its kind are refused by name."""

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_rules import check_task
from mtl_jax.core.task_spec import TaskSpec

GOOD = (
    TaskSpec("t", "binary", "x", smooth=0.1, gamma=2.0, class_weights=(1.0, 3.0)),
    TaskSpec("t", "multilabel", labels=("a", "b"), class_weights=(1.0, 1.0, 2.0, 2.0)),
    TaskSpec("t", "multilabel", "tags", classes=7, level="item"),
    TaskSpec("t", "multiclass", "x", classes=3, balanced=True),
    TaskSpec("t", "ordinal", "x", low=1.0, high=5.0, gamma=1.0, class_weights=(1.0,) * 5),
    TaskSpec("t", "regression", "x", low=0.0),
    TaskSpec("t", "similarity", "x", how="cross"),
    TaskSpec("t", "similarity", "x", low=0.0, high=5.0),
    TaskSpec("t", "retrieval", "x"),
)


@pytest.mark.parametrize("task", GOOD, ids=lambda t: t.kind)
def test_what_goes_together_passes(task):
    check_task(task)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("regression", {"gamma": 2.0}, "gamma=2.0: kind 'regression' does not read it"),
        ("retrieval", {"smooth": 0.1}, "smooth=0.1: kind 'retrieval' does not read it"),
        ("ordinal", {"smooth": 0.1, "low": 1.0, "high": 5.0}, "smooth=0.1: kind 'ordinal'"),
        ("binary", {"low": 0.0}, "low=0.0: kind 'binary' does not read it"),
        ("binary", {"how": "cross"}, "how='cross': kind 'binary' does not read it"),
        ("binary", {"labels": ("a",)}, "labels=('a',): kind 'binary' does not read it"),
        ("multilabel", {"labels": ("a", "b")}, "label='x': name one column, or several"),
        ("multilabel", {"label": "", "labels": ("a", "a")}, "a column is named twice"),
        ("binary", {"label": ""}, "label='': name one column"),
        ("ordinal", {}, "low=None: kind 'ordinal' needs low and high"),
        ("ordinal", {"low": 1.0}, "low=1.0: kind 'ordinal' needs low and high"),
        ("ordinal", {"low": 1.0, "high": 4.5}, "levels are whole numbers, and high is 4.5"),
        ("similarity", {"low": 5.0, "high": 1.0}, "low=5.0: it must be below high=1.0"),
        ("similarity", {"high": 1.0}, "needs low and high"),
        ("similarity", {"level": "user"}, "level='user': kind 'similarity' is of events"),
        ("binary", {"smooth": 1.0}, "smooth=1.0: it must lie in [0, 1)"),
        ("binary", {"gamma": -1.0}, "gamma=-1.0: it must be 0 or above"),
        ("binary", {"class_weights": (1.0,)}, "class_weights=(1.0,): 2 are needed, there are 1"),
        ("multiclass", {"classes": 3, "class_weights": (1.0, 2.0)}, "3 are needed, there are 2"),
        ("binary", {"class_weights": (1.0, -1.0)}, "they must be finite and not negative"),
        ("binary", {"balanced": True, "class_weights": (1.0, 1.0)}, "balanced=True: it is for"),
        ("binary", {"balanced": True, "level": "user"}, "balanced=True: it is for tasks on events"),
    ],
)
def test_what_does_not_is_refused(kind, fields, message):
    with pytest.raises(UserError) as error:
        check_task(TaskSpec(**{"name": "it", "kind": kind, "label": "x", **fields}))
    assert str(error.value).startswith("task 'it': ")
    assert message in str(error.value)


def test_sizes_and_columns():
    assert [t.size for t in GOOD] == [1, 2, 7, 3, 5, 1, 1, 1, 1]
    assert GOOD[1].columns == ("a", "b")
    assert GOOD[2].columns == ("tags",)
    assert [t.probability for t in GOOD[5:]] == [False, True, False, False]
