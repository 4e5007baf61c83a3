"""Losses against numpy, scikit-learn and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.tasks import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")
RNG = np.random.default_rng(0)
LOGIT = RNG.normal(0, 2, 12).astype(np.float32)
BINARY = (RNG.random(12) < 0.4).astype(np.float32)
ONES = np.ones(12, np.float32)
LOGITS = RNG.normal(0, 2, (12, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 5, 12)
SOFT = RNG.dirichlet(np.ones(5), 12).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.float64(x)))


def log_softmax(x):
    x = np.float64(x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_bce_is_the_log_loss():
    log_loss = pytest.importorskip("sklearn.metrics").log_loss
    mean = float(np.mean(losses.bce(LOGIT, BINARY, ONES)))
    assert np.isclose(mean, log_loss(BINARY, sigmoid(LOGIT)), rtol=1e-5)


def test_bce_is_finite_for_extreme_logits():
    found = losses.bce(np.float32([80, -80]), np.float32([0, 1]), np.ones(2, np.float32))
    np.testing.assert_allclose(found, [80, 80])


def test_cross_entropy_of_classes_and_of_soft_labels():
    by_hand = -log_softmax(LOGITS)[np.arange(12), CLASSES]
    got = losses.cross_entropy(LOGITS, CLASSES.astype(np.float32), ONES)
    np.testing.assert_allclose(got, by_hand, rtol=1e-5)
    soft = losses.cross_entropy(LOGITS, SOFT, ONES)
    np.testing.assert_allclose(soft, -(SOFT * log_softmax(LOGITS)).sum(-1), rtol=1e-5)
    one_hot = np.eye(5, dtype=np.float32)[CLASSES]
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, one_hot, ONES), by_hand, rtol=1e-5)


def test_a_masked_class_of_minus_one_is_finite():
    label = np.full(12, -1, np.float32)
    assert np.isfinite(losses.cross_entropy(LOGITS, label, np.zeros(12))).all()


def test_mse_and_huber():
    torch = pytest.importorskip("torch")
    y = RNG.normal(0, 2, 12).astype(np.float32)
    np.testing.assert_allclose(losses.mse(LOGIT, y, ONES), (LOGIT - y) ** 2, rtol=1e-6)
    huber = torch.nn.functional.huber_loss(
        torch.tensor(LOGIT), torch.tensor(y), reduction="none", delta=1.0
    )
    np.testing.assert_allclose(losses.huber(LOGIT, y, ONES), huber.numpy(), rtol=1e-5)


def test_soft_f1_is_f1_where_predictions_are_sure():
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    sure = np.where(LOGIT > 0, 40, -40).astype(np.float32)
    found = losses.soft_f1(sure, BINARY, ONES)
    np.testing.assert_allclose(found, 1 - f1_score(BINARY, LOGIT > 0), rtol=1e-5)
    assert found.shape == (12,)


def test_soft_f1_counts_only_what_the_mask_keeps():
    mask = (np.arange(12) < 7).astype(np.float32)
    p, y = sigmoid(LOGIT[:7]), BINARY[:7]
    by_hand = 1 - 2 * (p * y).sum() / (p.sum() + y.sum())
    np.testing.assert_allclose(losses.soft_f1(LOGIT, BINARY, mask)[0], by_hand, rtol=1e-5)
    grad = jax.grad(lambda x: losses.soft_f1(x, BINARY, mask)[0])(jnp.asarray(LOGIT))
    assert (np.asarray(grad[7:]) == 0).all()
    assert (np.asarray(grad[:7]) != 0).all()


def all_items(n=9, rows=6):
    """Scores of `rows` against all n items, and the row's own item."""
    scores = RNG.normal(0, 1.5, (rows, n)).astype(np.float32)
    own = RNG.integers(0, n, rows)
    keep = (np.arange(n)[None] != own[:, None]).astype(np.float32)
    return scores, own, keep


def test_sampled_softmax_over_all_items_is_the_full_softmax():
    scores, own, keep = all_items()
    zero = np.zeros(9, np.float32)
    got = losses.sampled_softmax(scores[np.arange(6), own], scores, zero[own], zero, keep)
    np.testing.assert_allclose(got, -log_softmax(scores)[np.arange(6), own], rtol=1e-5)


def test_sampled_softmax_with_log_q():
    scores, own, keep = all_items()
    keep[:, 3] = 0  # a padded candidate
    log_q = RNG.normal(-2, 1, 9).astype(np.float32)
    got = losses.sampled_softmax(scores[np.arange(6), own], scores, log_q[own], log_q, keep)
    for r in range(6):
        mine = np.float64(scores[r, own[r]] - log_q[own[r]])
        others = [np.float64(scores[r, j] - log_q[j]) for j in range(9) if keep[r, j]]
        assert np.isclose(got[r], np.log(np.exp([mine, *others]).sum()) - mine, rtol=1e-5)


def test_the_correction_makes_a_skewed_sample_count_like_the_whole():
    """A candidate drawn with expectation q stands for 1/q of its kind: exact for repeated ones."""
    scores = np.float32([[0.3, -0.2, 1.1]])
    counts = np.array([4, 2, 1])  # each candidate stands `count` times, with q = count
    which = np.repeat(np.arange(3), counts)
    log_q = np.log(counts[which]).astype(np.float32)
    keep = (which != 2).astype(np.float32)[None]
    got = losses.sampled_softmax(scores[:, 2], scores[:, which], np.float32([0.0]), log_q, keep)
    np.testing.assert_allclose(got, -log_softmax(scores)[0, 2], rtol=1e-5)


def test_bpr_is_the_mean_log_sigmoid_of_pairs():
    torch = pytest.importorskip("torch")
    scores, own, keep = all_items()
    zero = np.zeros(9, np.float32)
    mine = scores[np.arange(6), own]
    got = losses.bpr(mine, scores, zero[own], zero, keep)
    pairs = -torch.nn.functional.logsigmoid(torch.tensor(mine[:, None] - scores)).numpy()
    np.testing.assert_allclose(got, (pairs * keep).sum(1) / keep.sum(1), rtol=1e-5)


@pytest.mark.parametrize("name", losses.RETRIEVAL_LOSSES)
def test_candidates_that_are_left_out_have_no_influence(name):
    scores, own, keep = all_items()
    zero = np.zeros(9, np.float32)
    loss = losses.RETRIEVAL_LOSSES[name]
    mine = jnp.asarray(scores[np.arange(6), own])

    def total(others):
        return jnp.sum(loss(mine, others, zero[own], zero, keep))

    grad = jax.grad(total)(jnp.asarray(scores))
    assert (np.asarray(grad)[keep == 0] == 0).all()
    changed = np.where(keep == 0, 50.0, scores).astype(np.float32)
    assert total(changed) == total(jnp.asarray(scores))
