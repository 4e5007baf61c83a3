"""Cross-entropies of classes: smoothing, focal factor, class weights, unknown labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.tasks.classes import balanced, bce, cross_entropy, multilabel_bce

pytestmark = pytest.mark.usefixtures("quick_compilation")
B, C = 6, 4
ONES = np.ones(B, np.float32)


def draw(seed):
    """(logit [B], soft labels [B], logits [B, C], classes [B], soft labels [B, C])."""
    r = np.random.default_rng(seed)
    soft = r.dirichlet(np.ones(C), B)
    drawn = r.normal(0, 2, B), r.random(B), r.normal(0, 2, (B, C)), r.integers(0, C, B), soft
    return tuple(np.float32(x) for x in drawn)


def softmax(x):
    e = np.exp(np.float64(x))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_soft_label_is_its_share_of_the_loss_of_either_class(seed):
    x, p, *_ = draw(seed)
    mixed = p * bce(x, ONES, ONES) + (1 - p) * bce(x, 0 * ONES, ONES)
    np.testing.assert_allclose(bce(x, p, ONES), mixed, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 1000), gamma=st.sampled_from([0.5, 2.0]))
@settings(max_examples=10, deadline=None)
def test_focal_is_the_loss_times_the_doubt(seed, gamma):
    x, _, logits, classes, _ = draw(seed)
    y = np.float32(classes > 1)
    p_t = np.where(y == 1, sigmoid(x), sigmoid(-x))
    np.testing.assert_allclose(
        bce(x, y, ONES, gamma=gamma), -((1 - p_t) ** gamma) * np.log(p_t), rtol=1e-4
    )
    p_t = softmax(logits)[np.arange(B), classes.astype(int)]
    np.testing.assert_allclose(
        cross_entropy(logits, classes, ONES, gamma=gamma),
        -((1 - p_t) ** gamma) * np.log(p_t),
        rtol=1e-4,
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_two_classes_are_the_binary_loss_with_every_option(seed):
    x, p, *_ = draw(seed)
    logits, label = np.stack([0 * x, x], -1), np.stack([1 - p, p], -1)
    for options in (
        {},
        {"smooth": 0.2},
        {"gamma": 1.5},
        {"weights": (0.3, 2.0)},
        {"smooth": 0.1, "gamma": 2.0, "weights": (0.3, 2.0)},
    ):
        two, one = cross_entropy(logits, label, ONES, **options), bce(x, p, ONES, **options)
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_options_that_say_nothing_change_nothing(seed):
    x, p, logits, classes, soft = draw(seed)
    for loss, output, label, n in (
        (bce, x, p, 2),
        (cross_entropy, logits, classes, C),
        (cross_entropy, logits, soft, C),
        (multilabel_bce, logits, np.round(soft * 2) - (soft > 0.6), 2 * C),
    ):
        plain = loss(output, label, ONES)
        for options in ({"weights": (1.0,) * n}, {"gamma": 1e-12}, {"smooth": 1e-12}):
            same = loss(output, label, ONES, **options)
            np.testing.assert_allclose(same, plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradients_are_finite_where_the_model_is_sure(gamma):
    x = jnp.float32([90.0, -90.0, 90.0, -90.0])
    y = jnp.float32([1.0, 0.0, 0.0, 1.0])
    one = jax.grad(lambda x: bce(x, y, y, gamma=gamma).sum())(x)
    assert np.isfinite(one).all()
    two = jax.grad(lambda x: cross_entropy(jnp.stack([0 * x, x], -1), y, y, gamma=gamma).sum())(x)
    np.testing.assert_allclose(two, one, atol=1e-5)
    np.testing.assert_allclose(one[2:], [1.0, -1.0], atol=1e-4)


def test_smoothing_draws_to_the_uniform_distribution():
    x, _, logits, classes, _ = draw(3)
    hot = np.eye(C)[classes.astype(int)]
    by_hand = -((0.9 * hot + 0.1 / C) * np.log(softmax(logits))).sum(-1)
    np.testing.assert_allclose(cross_entropy(logits, classes, ONES, smooth=0.1), by_hand, rtol=1e-5)
    theirs = optax.sigmoid_binary_cross_entropy(x, np.full(B, 0.95))
    np.testing.assert_allclose(bce(x, ONES, ONES, smooth=0.1), theirs, rtol=1e-5)


def test_the_gradient_of_a_weighted_row_is_its_weight_times_its_own():
    _, _, logits, classes, _ = draw(4)
    weights = (0.5, 3.0, 0.0, 1.0)

    def total(x):
        return jnp.sum(cross_entropy(x, classes, ONES, weights=weights))

    hot = np.eye(C)[classes.astype(int)]
    by_hand = np.asarray(weights)[classes.astype(int)][:, None] * (softmax(logits) - hot)
    np.testing.assert_allclose(jax.grad(total)(logits), by_hand, rtol=1e-4, atol=1e-6)


def test_a_row_of_several_labels_is_the_mean_over_those_known():
    _, _, logits, _, _ = draw(5)
    label = np.float32([[1, 0, -1, 0], [-1, -1, 1, -1], [0, 1, 1, 0]])
    options = {"gamma": 2.0, "smooth": 0.1}
    got = multilabel_bce(logits[:3], label, ONES[:3], **options)
    for row, y, value in zip(logits, label, got, strict=False):
        known = y >= 0
        np.testing.assert_allclose(value, bce(row[known], y[known], None, **options).mean(), 1e-5)
    weighted = multilabel_bce(logits[:3], label, ONES[:3], weights=(1, 2, 1, 3, 1, 4, 1, 5))
    each = [bce(logits[:3, c], label[:, c], None, weights=(1, c + 2)) for c in range(C)]
    by_hand = np.where(label < 0, 0, np.stack(each, 1)).sum(1) / (label >= 0).sum(1)
    np.testing.assert_allclose(weighted, by_hand, rtol=1e-5)


def test_an_unknown_label_has_no_gradient_and_a_row_of_them_is_nothing():
    _, _, logits, _, _ = draw(6)
    label = np.where(np.arange(C) == 2, -1.0, 1.0) * np.ones((B, 1))
    label[0] = -1.0
    grad = jax.grad(lambda x: multilabel_bce(x, jnp.asarray(label), ONES).sum())(logits)
    assert (np.asarray(grad)[label < 0] == 0).all()
    assert (np.asarray(grad)[label >= 0] != 0).all()
    assert multilabel_bce(logits, label, ONES)[0] == 0


def test_balanced_weights_are_scikit_learns():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    y = np.repeat([0, 1, 3], [7, 2, 5])
    found = balanced(np.bincount(y))
    theirs = compute("balanced", classes=np.array([0, 1, 3]), y=y)
    np.testing.assert_allclose(found, [theirs[0], theirs[1], 0.0, theirs[2]])
    two = balanced(np.array([[8.0, 2.0], [5.0, 5.0]]))
    np.testing.assert_allclose(two, [10 / 16, 10 / 4, 1.0, 1.0])
