from types import SimpleNamespace

import jax
import numpy as np
import pytest
from trunk_cases import (
    DZ,
    FAST,
    NAMES,
    TASKS,
    Z,
    assert_outputs,
    case,
    config,
    drawn,
    each_of,
    forward,
    gate,
    head,
    mixed,
    shapes_of,
    stack_size,
    train,
    trunk_size,
)

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.towers import GATES

pytestmark = pytest.mark.usefixtures("quick_compilation")
TWO = (TaskSpec("a", "regression", "a"), TaskSpec("b", "regression", "b"))


def extracted(p, names, levels):
    """({task: features}, {task: gate of the last level}) by hand."""
    x, s, weights = dict.fromkeys(names, Z), Z, {}
    for n in range(levels):
        level, last = p[f"level_{n}"], n == levels - 1
        shared = each_of(level["shared"]["experts"], s)
        kind = "task" if last else "group"
        own = {t: each_of(level[f"{kind}_{t}"]["experts"], x[t]) for t in names}
        weights = {t: gate(level[f"task_{t}"], x[t]) for t in names}
        x = {t: mixed(weights[t], [*own[t], *shared]) for t in names}
        if not last:
            every = [f for t in names for f in own[t]]
            s = mixed(gate({"gate": level["shared_gate"]}, s), [*every, *shared])
    return x, weights


def test_two_levels_with_a_shared_gate_over_all_experts_between():
    found = case("ple")
    features, weights = extracted(found.trunk(), NAMES, 2)
    assert_outputs(found, features)
    for t in NAMES:
        np.testing.assert_allclose(found.out[GATES][t], weights[t], rtol=1e-4, atol=1e-6)


def test_with_three_levels_the_shared_gate_reads_the_shared_features():
    c = config("ple", levels=3, trunk_widths=(3,), task_experts=1)
    params = drawn(c, TASKS[:2])
    out = jax.jit(lambda p: forward(c, p, Z, True, TASKS[:2]), compiler_options=FAST)(params)
    features, _ = extracted(jax.tree.map(np.asarray, params["trunk"]), NAMES[:2], 3)
    for t in NAMES[:2]:
        expected = head(SimpleNamespace(params=params), t, features[t])
        np.testing.assert_allclose(out[t], expected, rtol=1e-3, atol=1e-4)


def test_parameters_count_by_formula_and_one_level_is_cgc():
    experts, gates = 4 * 2 + 1, 4 * (2 + 1)
    first = experts * stack_size(DZ) + DZ * (gates + experts)
    assert trunk_size(config("ple")) == first + experts * stack_size(3) + 3 * gates
    one = shapes_of(config("ple", levels=1)), shapes_of(config("cgc"))
    assert jax.tree.structure(one[0]) == jax.tree.structure(one[1])


def gate_distance(labels, z):
    """Between the weights that two tasks give to the shared experts."""
    c = config("ple", trunk_widths=(4,), gate_temperature=1.0, task_experts=1, shared_experts=4)
    gates = train(c, TWO, z, labels, 600, 0.03)[1][GATES]
    a, b = (gates[t][..., 1:] / gates[t][..., 1:].sum(-1, keepdims=True) for t in ("a", "b"))
    return np.abs(a - b).sum(-1).mean() / 2


def test_gates_part_for_unrelated_tasks_more_than_for_one_task_twice():
    z = np.random.default_rng(0).normal(size=(128, 4))
    a, b = np.sin(2 * z[:, 0]) * z[:, 1], np.cos(2 * z[:, 2]) * z[:, 3]
    together, apart = gate_distance({"a": a, "b": a}, z), gate_distance({"a": a, "b": b}, z)
    assert apart > 2 * together
