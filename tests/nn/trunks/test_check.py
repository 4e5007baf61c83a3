"""What a trunk refuses, by the name of the field."""

import re

import pytest
from trunk_cases import TASKS, config, shapes_of

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.trunks.check import check_trunk, trunk_tasks

CHAIN = ["esmm", "aitm", "classifier_chain"]


@pytest.mark.parametrize("trunk", CHAIN)
@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ((), "model.chain=(): trunk '{}' needs two or more binary tasks in causal order"),
        (("click",), "needs two or more binary tasks"),
        (("click", "purchas"), "there is no such task 'purchas'. Did you mean 'purchase'?"),
        (("click", "rating"), "task 'rating' is 'regression' and not 'binary'"),
        (("click", "click"), "a task is named twice"),
    ],
)
def test_a_chain_needs_binary_tasks_that_exist(trunk, chain, message):
    with pytest.raises(UserError, match=re.escape(message.format(trunk))) as error:
        shapes_of(config(trunk, chain=chain))
    assert "model.chain=" in str(error.value)
    assert "Tasks that may stand in it: click, purchase" in str(error.value)


@pytest.mark.parametrize(
    ("trunk", "options", "message"),
    [
        ("mmoe", {"experts": 0}, "model.experts=0: it must be 1 or above"),
        ("ple", {"levels": 0}, "model.levels=0: it must be 1 or above"),
        ("cgc", {"task_experts": 0}, "model.task_experts=0"),
        ("cgc", {"shared_experts": 0}, "model.shared_experts=0: trunk 'cgc' needs 1 or more"),
        ("adatt", {"shared_experts": -1}, "model.shared_experts=-1: trunk 'adatt' needs 0"),
        ("dselect_k", {"experts_k": 4}, "model.experts_k=4: there are only 3 experts"),
        ("dselect_k", {"step_width": 0.0}, "model.step_width=0.0: it must be above 0"),
        ("dselect_k", {"entropy_weight": -1.0}, "model.entropy_weight=-1.0"),
        ("aitm", {"calibrator_weight": float("nan")}, "model.calibrator_weight=nan"),
        ("mmoe", {"gate_temperature": 0.0}, "model.gate_temperature=0.0: it must be above 0"),
        ("mmoe", {"trunk_widths": ()}, "model.trunk_widths=(): trunk 'mmoe' needs at least one"),
        ("mmoe", {"trunk_widths": (4, 0)}, "every width must be 1 or above"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(trunk, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check_trunk(config(trunk, **options), TASKS)


def test_a_trunk_that_no_head_stands_on_is_refused():
    tasks = (TaskSpec("next", "retrieval", "click"),)
    with pytest.raises(UserError, match=r"model\.trunk='mmoe': no task's head"):
        check_trunk(config("mmoe"), tasks)
    check_trunk(config("shared_bottom"), tasks)


def test_which_tasks_stand_on_the_trunk():
    others = (
        TaskSpec("next", "retrieval", "click"),
        TaskSpec("alike", "similarity", "click"),
        TaskSpec("content", "multiclass", "category", classes=3, level="item"),
        TaskSpec("interest", "multiclass", "interest", classes=3, level="user"),
    )
    assert trunk_tasks((*others, *TASKS)) == TASKS
