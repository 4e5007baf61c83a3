import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    each_of,
    gate,
    mixed,
    stack_size,
    train,
    trunk_size,
)

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.towers import GATES

pytestmark = pytest.mark.usefixtures("quick_compilation")
TWO = (TaskSpec("a", "regression", "a"), TaskSpec("b", "regression", "b"))


def test_every_task_mixes_the_shared_experts_by_a_gate_of_its_own():
    found = case("mmoe")
    p = found.trunk()
    weights = {task: gate(p[f"task_{task}"], Z) for task in NAMES}
    experts = each_of(p["experts"], Z)
    assert_outputs(found, {task: mixed(weights[task], experts) for task in NAMES})
    for task in NAMES:
        np.testing.assert_allclose(found.out[GATES][task], weights[task], rtol=1e-4, atol=1e-6)
    assert trunk_size(config("mmoe")) == 3 * stack_size(DZ) + 4 * DZ * 3


def gate_distance(labels, z):
    c = config("mmoe", trunk_widths=(6,), gate_temperature=1.0, experts=4)
    gates = train(c, TWO, z, labels, 600)[1][GATES]
    return np.abs(gates["a"] - gates["b"]).sum(-1).mean() / 2


def test_gates_part_for_unrelated_tasks_and_stay_together_for_one_task_twice():
    z = np.random.default_rng(0).normal(size=(128, 4))
    a, b = np.sin(2 * z[:, 0]) * z[:, 1], np.cos(2 * z[:, 2]) * z[:, 3]
    together, apart = gate_distance({"a": a, "b": a}, z), gate_distance({"a": a, "b": b}, z)
    assert apart > 2 * together
