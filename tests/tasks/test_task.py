"""Loss vectors: means over labelled rows, a missing label is nothing, weights add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax import balance
from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.ordinal import log_probabilities
from mtl_jax.tasks.task import label_counts, loss_name, loss_sums
from mtl_jax.tasks.three_part import three_part

pytestmark = pytest.mark.usefixtures("quick_compilation")
TASKS = (
    TaskSpec("click", "binary", "click"),
    TaskSpec("f1", "binary", "click", loss="soft_f1"),
    TaskSpec("rating", "regression", "rating"),
    TaskSpec("robust", "regression", "rating", loss="huber"),
    TaskSpec("kind", "multiclass", "kind", classes=3),
)
MORE = (
    TaskSpec("several", "multilabel", labels=("a", "b", "c"), gamma=2.0, class_weights=(1, 2) * 3),
    TaskSpec("stars", "ordinal", "kind", low=1.0, high=3.0, gamma=0.5),
    TaskSpec("focal", "multiclass", "kind", classes=3, smooth=0.1, gamma=2.0, balanced=False),
    TaskSpec("alike", "similarity", "click"),
    TaskSpec("near", "similarity", "rating", low=1.0, high=5.0),
)
ALL = (*TASKS, *MORE)
S, B = 2, 4


def case(seed, masks, tasks=TASKS):
    rng = np.random.default_rng(seed)
    outputs = {
        t.name: rng.normal(size=(S, B, t.size)[: 2 + (t.size > 1)]).astype(np.float32)
        for t in tasks
    }
    batch = {}
    for n, t in enumerate(tasks):
        label = {
            "click": rng.integers(0, 2, (S, B)),
            "rating": rng.normal(3, 1, (S, B)),
            "kind": rng.integers(0, 3, (S, B)),
            "": rng.integers(-1, 2, (S, B, 3)),
        }[t.label]
        batch[f"label/{t.name}"] = label.astype(np.float32)
        batch[f"mask/{t.name}"] = np.asarray(masks[n], np.float32).reshape(S, B)
    return outputs, batch


MASKS = st.lists(
    st.lists(st.booleans(), min_size=S * B, max_size=S * B),
    min_size=len(ALL),
    max_size=len(ALL),
)


@jax.jit
def losses_and_gradients(outputs, batch):
    def total(out):
        sums, counts = loss_sums(ALL, out, batch)
        return sums.sum(), (sums, counts)

    (_, found), grads = jax.value_and_grad(total, has_aux=True)(outputs)
    return *found, grads


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), masks=MASKS, junk=st.sampled_from([0.0, 7.0, -1e6, np.nan]))
def test_a_missing_label_changes_neither_loss_nor_gradient(seed, masks, junk):
    outputs, batch = case(seed, masks, ALL)
    changed = dict(batch)
    for t in ALL:
        label, mask = batch[f"label/{t.name}"], batch[f"mask/{t.name}"]
        there = (mask > 0).reshape(*mask.shape, *(1,) * (label.ndim - 2))
        changed[f"label/{t.name}"] = np.where(there, label, np.float32(junk))
    changed["label/kind"] = np.where(batch["mask/kind"] > 0, batch["label/kind"], np.float32(-1))
    plain, other = losses_and_gradients(outputs, batch), losses_and_gradients(outputs, changed)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for t in ALL:
        grad = np.asarray(plain[2][t.name])
        assert (grad[batch[f"mask/{t.name}"] == 0] == 0).all(), t.name


def test_reduction_is_the_mean_over_labelled_rows_and_a_weighted_sum_over_tasks():
    masks = np.zeros((len(TASKS), S * B))
    masks[0, :3], masks[2, 2:4], masks[4, 5] = 1, 1, 1
    outputs, batch = case(3, masks)
    sums, counts = loss_sums(TASKS, outputs, batch)
    np.testing.assert_array_equal(counts, [3, 0, 2, 0, 1])
    np.testing.assert_array_equal(label_counts(TASKS, batch), counts)
    assert sums[1] == 0.0
    assert sums[3] == 0.0
    x, y = outputs["click"].ravel()[:3], batch["label/click"].ravel()[:3]
    bce = np.log1p(np.exp(-np.where(y > 0, x, -x)))
    assert np.isclose(sums[0], bce.sum(), rtol=1e-5)
    squares = (outputs["rating"] - batch["label/rating"]).ravel()[2:4] ** 2
    alpha = (0.5, 1.0, 2.0, 1.0, 3.0)
    means = sums / jnp.maximum(counts, 1)
    stats = balance.Stats(means, (counts > 0).astype(jnp.float32), jnp.int32(0))
    weights = balance.get("fixed", weights=alpha).update(stats, (), jax.random.PRNGKey(0)).weights
    by_hand = 0.5 * bce.mean() + 2.0 * squares.mean() + 3.0 * sums[4]
    assert np.isclose(np.sum(weights * means), by_hand, rtol=1e-5)


def test_each_kind_has_a_default_loss_and_unknown_ones_are_refused():
    assert loss_name(TaskSpec("t", "binary", "x")) == "bce"
    assert loss_name(TaskSpec("t", "retrieval", "x")) == "sampled_softmax"
    assert loss_name(TaskSpec("t", "retrieval", "x", loss="bpr")) == "bpr"
    with pytest.raises(UserError, match=r"task 't': unknown loss 'hubber'\. Did you mean 'huber'"):
        loss_name(TaskSpec("t", "regression", "x", loss="hubber"))
    with pytest.raises(UserError, match="unknown loss 'bce'"):
        loss_name(TaskSpec("t", "retrieval", "x", loss="bce"))
    assert [loss_name(t) for t in MORE] == [
        "multilabel_bce", "cross_entropy", "cross_entropy", "bce", "mse",
    ]  # fmt: skip
    with pytest.raises(UserError, match="task 't': unknown loss 'mse'"):
        loss_name(TaskSpec("t", "similarity", "x", loss="mse"))
    with pytest.raises(UserError, match="task 't': loss 'soft_f1' takes no smooth, gamma"):
        loss_name(TaskSpec("t", "binary", "x", loss="soft_f1", gamma=1.0, smooth=0.1))


def test_options_reach_the_loss_and_weights_do_not_enter_the_count():
    x = np.float32([[0.3, -1.2, 2.0, 0.1]])
    y = np.float32([[1, 0, 1, 1]])
    batch = {"label/t": y, "mask/t": np.float32([[1, 1, 1, 0]])}
    task = TaskSpec("t", "binary", "x", gamma=2.0, class_weights=(0.5, 4.0))
    sums, counts = loss_sums((task,), {"t": x}, batch)
    p = 1 / (1 + np.exp(-np.where(y > 0, x, -x)))[0, :3]
    by_hand = np.array([4.0, 0.5, 4.0]) * (1 - p) ** 2 * -np.log(p)
    assert counts[0] == 3
    assert np.isclose(sums[0], by_hand.sum(), rtol=1e-5)


def test_the_ordinal_loss_is_the_negative_log_likelihood_of_the_cumulative_model():
    score, raw = np.float32([0.4, -2.0, 1.5]), np.float32([-1.0, 0.3, 0.2, 1.0])
    level = np.float32([0, 2, 4])
    task = TaskSpec("t", "ordinal", "x", low=1.0, high=5.0)
    batch = {"label/t": level[None], "mask/t": np.ones((1, 3), np.float32)}

    def loss(score):
        return loss_sums((task,), {"t": log_probabilities(score, raw)[None]}, batch)[0][0]

    def by_hand(score):
        theta = np.float64(-1.0 + np.append(0, np.cumsum(1e-3 + np.log1p(np.exp(raw[1:])))))
        below = 1 / (1 + np.exp(-(theta[None] - np.float64(score)[:, None])))
        p = np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)
        return -np.log(p[np.arange(3), level.astype(int)]).sum()

    assert np.isclose(loss(score), by_hand(score), rtol=1e-5)
    steps = 1e-5 * np.eye(3)
    slope = [(by_hand(score + d) - by_hand(score - d)) / 2e-5 for d in steps]
    np.testing.assert_allclose(jax.grad(loss)(score), slope, rtol=1e-3, atol=1e-5)


def test_three_part_is_task_plus_lambda_content_plus_mu_interest():
    task = TaskSpec("click", "binary", "click", weight=2.0)
    found = three_part(task, lam=0.3, mu=0.7, categories=5)
    assert [(t.name, t.weight, t.level, t.classes) for t in found] == [
        ("click", 2.0, "event", 0),
        ("content", 0.3, "item", 5),
        ("interest", 0.7, "user", 5),
    ]
    with_tags = three_part(task, lam=0.3, mu=0.7, categories=5, tags=4)
    assert [(t.name, t.weight, t.classes) for t in with_tags[1:3]] == [
        ("content", 0.15, 5),
        ("tags", 0.15, 4),
    ]
    with pytest.raises(ValueError, match="category"):
        three_part(task, lam=0.3, mu=0.7, categories=0)


def test_the_three_parts_add_up_with_their_weights():
    tasks = three_part(TaskSpec("click", "binary", "click"), lam=0.3, mu=0.7, categories=3)
    rng = np.random.default_rng(5)
    soft = rng.dirichlet(np.ones(3), (1, 4)).astype(np.float32)
    outputs = {
        "click": rng.normal(size=(1, 4)).astype(np.float32),
        "content": rng.normal(size=(1, 6, 3)).astype(np.float32),
        "interest": rng.normal(size=(1, 4, 3)).astype(np.float32),
    }
    batch = {
        "label/click": np.ones((1, 4), np.float32),
        "mask/click": np.ones((1, 4), np.float32),
        "label/content": np.array([[0, 1, 2, 1, 0, 0]], np.float32),
        "mask/content": np.array([[0, 1, 1, 1, 0, 0]], np.float32),
        "label/interest": soft,
        "mask/interest": np.array([[1, 1, 0, 1]], np.float32),
    }
    sums, counts = loss_sums(tasks, outputs, batch)
    weights = np.array([t.weight for t in tasks])
    total = float(np.sum(weights * sums / counts))

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    task = np.log1p(np.exp(-outputs["click"])).mean()
    content = -log_softmax(outputs["content"])[0, [1, 2, 3], [1, 2, 1]].mean()
    interest = -(soft * log_softmax(outputs["interest"])).sum(-1)[0, [0, 1, 3]].mean()
    assert np.isclose(total, task + 0.3 * content + 0.7 * interest, rtol=1e-5)
