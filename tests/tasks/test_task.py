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
S, B = 2, 4


def case(seed, masks):
    rng = np.random.default_rng(seed)
    outputs = {t.name: rng.normal(size=(S, B)).astype(np.float32) for t in TASKS}
    outputs["kind"] = rng.normal(size=(S, B, 3)).astype(np.float32)
    batch = {}
    for n, t in enumerate(TASKS):
        label = {
            "click": rng.integers(0, 2, (S, B)),
            "rating": rng.normal(3, 1, (S, B)),
            "kind": rng.integers(0, 3, (S, B)),
        }[t.label]
        batch[f"label/{t.name}"] = label.astype(np.float32)
        batch[f"mask/{t.name}"] = np.asarray(masks[n], np.float32).reshape(S, B)
    return outputs, batch


MASKS = st.lists(
    st.lists(st.booleans(), min_size=S * B, max_size=S * B),
    min_size=len(TASKS),
    max_size=len(TASKS),
)


@jax.jit
def losses_and_gradients(outputs, batch):
    def total(out):
        sums, counts = loss_sums(TASKS, out, batch)
        return sums.sum(), (sums, counts)

    (_, found), grads = jax.value_and_grad(total, has_aux=True)(outputs)
    return *found, grads


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), masks=MASKS, junk=st.sampled_from([0.0, 7.0, -1e6, np.nan]))
def test_a_missing_label_changes_neither_loss_nor_gradient(seed, masks, junk):
    outputs, batch = case(seed, masks)
    changed = {
        k: np.where(batch[k.replace("label", "mask")] > 0, v, np.float32(junk))
        if k.startswith("label/")
        else v
        for k, v in batch.items()
    }
    changed["label/kind"] = np.where(batch["mask/kind"] > 0, batch["label/kind"], np.float32(-1))
    plain, other = losses_and_gradients(outputs, batch), losses_and_gradients(outputs, changed)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for t in TASKS:
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
