import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trunk_cases import (
    DZ,
    LABELS,
    NAMES,
    TASKS,
    B,
    S,
    Z,
    case,
    config,
    dense,
    drawn,
    forward,
    head,
    sigmoid,
    stack,
    stack_size,
    trunk_size,
)

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.trunks.esmm import conditional_starts, product_logit
from mtl_jax.tasks.task import loss_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")
BASE = (sigmoid(LABELS["click"].mean), sigmoid(LABELS["purchase"].mean))


def test_the_output_is_the_logit_of_the_product():
    found = case("esmm")
    x = stack(found.trunk(), Z)
    for task in ("click", "rating", "kind"):
        np.testing.assert_allclose(found.out[task], head(found, task, x), rtol=2e-4, atol=2e-5)
    start = np.log(BASE[1] / BASE[0] / (1 - BASE[1] / BASE[0]))
    cvr = dense(jax.tree.map(np.asarray, found.params["head_purchase"]["out"]), x)[..., 0] + start
    product = sigmoid(head(found, "click", x)) * sigmoid(cvr)
    np.testing.assert_allclose(sigmoid(found.out["purchase"]), product, rtol=2e-4)
    assert (found.out["purchase"] < found.out["click"]).all()
    assert trunk_size(config("esmm")) == stack_size(DZ)


def test_the_product_is_exact_below_either_factor_and_finite_at_the_ends():
    a, b = (x.ravel() for x in np.meshgrid(np.linspace(-12, 12, 13), np.linspace(-12, 12, 13)))
    p = sigmoid(a) * sigmoid(b)
    np.testing.assert_allclose(product_logit(a, b), np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-5)
    ends = jnp.asarray([[1e4, 1e4], [-1e4, 1e4], [1e4, -1e4], [-1e4, -1e4], [60.0, -90.0]])
    found = product_logit(ends[:, 0], ends[:, 1])
    assert np.isfinite(found).all()
    assert (found <= ends.min(1)).all()
    grads = jax.grad(lambda x: product_logit(x[:, 0], x[:, 1]).sum())(ends)
    assert np.isfinite(grads).all()


def test_a_chain_of_three_never_rises():
    binary = tuple(t for t in TASKS if t.kind == "binary")
    tasks = (*binary, TaskSpec("refund", "binary", "refund"))
    c = config("esmm", chain=("click", "purchase", "refund"))
    out = jax.jit(lambda p: forward(c, p, 3 * Z, True, tasks))(drawn(c, tasks))
    assert (out["purchase"] < out["click"]).all()
    assert (out["refund"] < out["purchase"]).all()


def test_the_first_step_predicts_the_base_rate_of_the_product():
    starts = conditional_starts(
        ("click", "purchase"), {name: LABELS[name].mean for name in ("click", "purchase")}
    )
    assert set(starts) == {"purchase"}
    np.testing.assert_allclose(sigmoid(starts["purchase"]) * BASE[0], BASE[1], rtol=1e-6)
    reversed_ = conditional_starts(
        ("purchase", "click"), {name: LABELS[name].mean for name in ("click", "purchase")}
    )
    np.testing.assert_allclose(sigmoid(reversed_["click"]), 0.99, rtol=1e-6)


def test_the_click_loss_leaves_the_other_head_alone_and_no_row_is_dropped():
    reach = case("esmm").reached()
    assert reach["head_purchase/out/kernel"] == {"purchase"}
    assert reach["head_click/out/kernel"] == {"click", "purchase"}
    assert all(reach[p] == set(NAMES) for p in reach if p.startswith("trunk/"))
    # rows without a click count in the conversion loss: each row's logit has a gradient
    tasks = TASKS[:2]
    out = {t.name: jnp.asarray(case("esmm").out[t.name]) for t in tasks}
    click = np.arange(S * B).reshape(S, B) % 2
    batch = {
        "label/click": click,
        "label/purchase": click * (np.arange(S * B) % 4 == 1).reshape(S, B),
    }
    batch |= {f"mask/{t.name}": np.ones((S, B), np.float32) for t in tasks}
    grad = jax.grad(lambda o: loss_sums(tasks, o, batch)[0][1])(out)["purchase"]
    assert (np.asarray(grad) != 0).all()
