import jax
import jax.numpy as jnp
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
    each_of,
    mixed,
    reached,
    softmax,
    stack_size,
    train,
    trunk_size,
)

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.towers import GATES, PENALTIES
from mtl_jax.nn.trunks.dselect_k import selection_penalty, smooth_step

pytestmark = pytest.mark.usefixtures("quick_compilation")
TWO = (TaskSpec("a", "regression", "a"), TaskSpec("b", "regression", "b"))


def step(t, w=4.0):
    inside = -2 * t**3 / w**3 + 3 * t / (2 * w) + 0.5
    return np.where(t <= -w / 2, 0.0, np.where(t >= w / 2, 1.0, inside))


def selectors(p):
    """[S, B, k, E] of three experts in two bits: code 3 names none."""
    t = dense(p["bits"], Z).reshape(*Z.shape[:2], 2, 2)
    low, high = step(t[..., 0]), step(t[..., 1])
    return np.stack([(1 - low) * (1 - high), low * (1 - high), (1 - low) * high], -1)


def test_selectors_by_smooth_bits_are_mixed_into_gates():
    found = case("dselect_k")
    p, features = found.trunk(), {}
    experts = each_of(p["experts"], Z)
    for task in NAMES:
        own = p[f"task_{task}"]
        weights = np.einsum("sbk,sbke->sbe", softmax(dense(own["choice"], Z)), selectors(own))
        np.testing.assert_allclose(found.out[GATES][task], weights, rtol=1e-4, atol=1e-6)
        features[task] = mixed(weights, experts)
    assert_outputs(found, features)
    own = DZ * 2 * 2 + 2 * 2 + DZ * 2
    assert trunk_size(config("dselect_k")) == 3 * stack_size(DZ) + 4 * own


def test_the_penalty_is_the_entropy_of_the_selectors_and_their_loss_to_codes_of_no_expert():
    found = case("dselect_k")
    p = found.trunk()
    assert found.out[PENALTIES] == {}
    for task in NAMES:
        r = selectors(p[f"task_{task}"])
        entropy = -(r * np.log(r + 1e-6)).sum((2, 3)).mean(1)
        lost = (1 / r.sum(-1) - 1).sum(2).mean(1)
        expected = 0.1 * entropy + lost
        np.testing.assert_allclose(found.trained[PENALTIES][task], expected, rtol=1e-3)
    for path, tasks in reached(found.penalty_grads).items():
        own = {t for t in NAMES if f"task_{t}/bits" in path}
        assert tasks == own, path


def test_a_settled_selector_has_a_finite_penalty_and_gradient():
    c = config("dselect_k", experts=3)
    for r in ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.3, 0.3, 0.4]):
        value, grad = jax.value_and_grad(lambda x: selection_penalty(c, x))(jnp.asarray([[r]]))
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    assert selection_penalty(c, jnp.asarray([[[1.0, 0.0, 0.0]]])) < 1e-5


def test_the_smooth_step_is_flat_at_both_ends_and_has_slope_between():
    t = jnp.asarray([-9.0, -2.0, 0.0, 1.0, 2.0, 9.0])
    found = smooth_step(t, 4.0)
    np.testing.assert_allclose(found, step(np.asarray(t)), atol=1e-6)
    slope = jax.vmap(jax.grad(smooth_step), (0, None))(t, 4.0)
    np.testing.assert_allclose(slope[jnp.array([0, 1, 4, 5])], 0.0, atol=1e-6)
    assert (slope[2:4] > 0).all()


def test_the_regulariser_makes_entropy_fall_and_the_selection_k_sparse():
    z = np.random.default_rng(0).normal(size=(48, 4))
    labels = {"a": np.sin(2 * z[:, 0]) * z[:, 1], "b": np.cos(2 * z[:, 2])}
    entropy, used = {}, {}
    for weight in (0.0, 0.3):
        c = config("dselect_k", trunk_widths=(6,), experts=8, entropy_weight=weight, step_width=1.0)
        gates = train(c, TWO, z, labels, 300)[1][GATES]
        g = np.concatenate([gates["a"], gates["b"]])
        entropy[weight] = -(g * np.log(g + 1e-9)).sum(-1).mean()
        used[weight] = (g > 1e-3).sum(-1)
    assert entropy[0.3] < 0.7 * entropy[0.0]
    assert (used[0.3] <= 2).mean() > 0.9
    assert (used[0.0] <= 2).mean() < 0.5
