import jax
import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    gate,
    mixed,
    shapes_of,
    stack,
    stack_size,
    trunk_size,
)

from mtl_jax.nn.towers import GATES

pytestmark = pytest.mark.usefixtures("quick_compilation")


def fused(p, own, x, experts):
    """Gate over all experts, and the learnt combination of the group's own."""
    v = p.get("native_scale", np.ones(len(own)))
    return mixed(gate(p, x), experts) + sum(v[i] * experts[e] for i, e in enumerate(own))


def test_two_levels_of_fusion_with_native_experts():
    found = case("adatt")
    p, x = found.trunk(), dict.fromkeys((*NAMES, "shared"), Z)
    for level, kind in ((p["level_0"], "group"), (p["level_1"], "task")):
        owner = [t for t in NAMES for _ in range(2)] + ["shared"]
        experts = [
            stack(jax.tree.map(lambda v, e=e: v[e], level["experts"]), x[t])
            for e, t in enumerate(owner)
        ]
        own = {t: [e for e, o in enumerate(owner) if o == t] for t in x}
        inputs = x
        x = {t: fused(level[f"{kind}_{t}"], own[t], x[t], experts) for t in NAMES}
        if kind == "group":
            x["shared"] = fused(level["shared"], own["shared"], inputs["shared"], experts)
    assert_outputs(found, x)
    for t in NAMES:
        weights = gate(p["level_1"][f"task_{t}"], inputs[t])
        np.testing.assert_allclose(found.out[GATES][t], weights, rtol=1e-4, atol=1e-6)


def test_parameters_count_by_formula_and_shared_experts_may_be_left_out():
    first = 9 * stack_size(DZ) + 5 * DZ * 9 + 4 * 2
    assert trunk_size(config("adatt")) == first + 9 * stack_size(3) + 4 * (3 * 9 + 2)
    sp = config("adatt", shared_experts=0, task_experts=1, levels=1)
    assert trunk_size(sp) == 4 * stack_size(DZ) + 4 * DZ * 4
    assert "shared" not in shapes_of(sp)["trunk"]["level_0"]
