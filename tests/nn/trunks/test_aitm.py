import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    dense,
    gelu,
    reached,
    sigmoid,
    softmax,
    stack,
    stack_size,
    train,
    trunk_size,
)

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.towers import GATES, PENALTIES

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_later_task_attends_to_its_tower_and_to_what_the_earlier_one_tells():
    found = case("aitm")
    p = found.trunk()
    x = stack({k: v for k, v in p.items() if k.startswith(("layer", "norm"))}, Z)
    first, own = stack(p["chain_click"]["tower"], x), p["task_purchase"]
    u = np.stack([stack(own["tower"], x), gelu(dense(own["transfer"], first))], 2)
    scores = (dense(own["query"], u) * dense(own["key"], u)).sum(-1) / np.sqrt(3)
    weights = softmax(scores)
    second = (weights[..., None] * dense(own["value"], u)).sum(2)
    assert_outputs(found, {"click": first, "purchase": second, "rating": x, "kind": x})
    np.testing.assert_allclose(found.out[GATES]["purchase"], weights, rtol=1e-3, atol=1e-5)
    towers = 2 * stack_size(3, (3,))
    assert trunk_size(config("aitm")) == stack_size(DZ) + towers + 4 * (3 * 3 + 3)


def test_the_calibrator_belongs_to_the_later_task_and_reaches_both_heads():
    found = case("aitm")
    assert found.out[PENALTIES] == {}
    assert set(found.trained[PENALTIES]) == {"purchase"}
    rise = sigmoid(found.out["purchase"]) - sigmoid(found.out["click"])
    expected = 0.6 * np.maximum(rise, 0).mean(1)
    np.testing.assert_allclose(found.trained[PENALTIES]["purchase"], expected, rtol=1e-3, atol=1e-6)
    reach = reached(found.penalty_grads)
    assert reach["head_click/out/kernel"] == reach["head_purchase/out/kernel"] == {"purchase"}
    assert not reach["head_rating/out/kernel"]


def test_the_calibrator_lowers_violations():
    tasks = (TaskSpec("click", "binary", "click"), TaskSpec("purchase", "binary", "purchase"))
    rng = np.random.default_rng(0)
    z = rng.normal(size=(64, 4))
    # labels that contradict the order of the chain on half of the rows
    labels = {"click": z[:, 0] > 0, "purchase": z[:, 1] > 0}
    found = {}
    for weight in (0.0, 2.0):
        c = config("aitm", trunk_widths=(4,), calibrator_weight=weight)
        out = train(c, tasks, z, labels, 100)[1]
        rise = sigmoid(out["purchase"]) - sigmoid(out["click"])
        found[weight] = np.maximum(rise, 0).mean()
    assert found[2.0] < 0.5 * found[0.0]


def test_the_chain_reaches_back_and_no_further_than_its_names_say():
    reach = case("aitm").reached()
    for path, tasks in reach.items():
        if path.startswith("trunk/chain_click"):
            assert tasks == {"click", "purchase"}, path
        if path.startswith("trunk/task_purchase"):
            # a softmax does not see what both scores share
            assert tasks <= {"purchase"}, path
    assert reach["trunk/layer_0/kernel"] == set(NAMES)
