import jax
import numpy as np
import pytest

from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.heads import CosineHead, Head, OrdinalHead, RetrievalHead

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = ModelConfig(width=4, head_width=0, dropout=0.0)
X, Z = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)


def test_a_head_starts_at_the_labels_mean_with_their_spread():
    head = Head(CONFIG, 1, offset=3.5, scale=2.0)
    params = head.init(jax.random.PRNGKey(0), X, Z, True)["params"]
    found = head.apply({"params": params}, X, Z, True)
    deep = X @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(found, 3.5 + 2.0 * deep, rtol=1e-4)
    assert (np.asarray(params["wide"]["kernel"]) == 0).all()
    params["wide"]["kernel"] += 1.0
    wide = head.apply({"params": params}, X, Z, True)
    np.testing.assert_allclose(wide - found, 2.0 * Z.sum(1, keepdims=True), rtol=1e-3, atol=1e-4)


def test_without_the_wide_path_there_is_no_parameter_for_it():
    params = Head(CONFIG, 3).init(jax.random.PRNGKey(0), X, None, True)["params"]
    assert set(params) == {"out"}
    assert params["out"]["kernel"].shape == (6, 3)


def test_queries_are_scaled_and_keys_are_not():
    head = RetrievalHead(CONFIG)
    params = head.init(jax.random.PRNGKey(0), X, Z)["params"]
    query, key = head.apply({"params": params}, X, Z)
    by_hand = X @ params["query"]["kernel"] / 2.0
    np.testing.assert_allclose(query, by_hand, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(key, Z @ params["key"]["kernel"], rtol=1e-4, atol=1e-6)


def test_outputs_may_start_at_values_of_their_own():
    head = Head(CONFIG, 2, offset=(1.0, -4.0))
    params = head.init(jax.random.PRNGKey(0), X, None, True)["params"]
    params["out"]["kernel"] *= 0.0
    np.testing.assert_allclose(head.apply({"params": params}, X, None, True), [[1.0, -4.0]] * 5)


def test_an_ordinal_head_starts_near_its_thresholds_and_its_score_moves_them():
    head = OrdinalHead(CONFIG, (-1.0, 0.5))
    params = head.init(jax.random.PRNGKey(0), X, Z, True)["params"]
    params["score"]["out"]["kernel"] *= 0.0
    p = np.exp(head.apply({"params": params}, X, Z, True))
    below = 1 / (1 + np.exp([1.0, -0.5]))
    np.testing.assert_allclose(p[0], np.diff([0.0, *below, 1.0]), rtol=1e-4)
    params["score"]["out"]["bias"] += 1.0
    higher = np.exp(head.apply({"params": params}, X, Z, True))
    assert (higher[:, 2] > p[:, 2]).all()


def test_a_cosine_head_is_symmetric_blind_to_length_and_rises_with_the_cosine():
    head = CosineHead(offset=-0.3)
    params = head.init(jax.random.PRNGKey(0), X, Z)["params"]
    run = lambda a, b: head.apply({"params": params}, a, b)  # noqa: E731
    np.testing.assert_allclose(run(X, Z), run(Z, X), rtol=1e-5)
    np.testing.assert_allclose(run(3 * X, Z / 7), run(X, Z), rtol=1e-4, atol=1e-5)
    cosine = (X * Z).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Z, axis=1)
    by_hand = (cosine - cosine.mean()) / cosine.std() - 0.3
    np.testing.assert_allclose(run(X, Z), by_hand, rtol=1e-4, atol=1e-5)
    nearly = X + 1e-4 * Z  # texts that are all alike to the encoder
    start = head.init(jax.random.PRNGKey(0), X, nearly)
    assert abs(head.apply(start, X, nearly).mean() + 0.3) < 1e-3
    params = {"cosine_scale": params["cosine_scale"].at[0].add(-5.0)}
    assert (np.diff(run(X, Z)[np.argsort(cosine)]) > 0).all(), "its scale stays positive"


def test_a_text_of_zeros_has_no_cosine_no_part_in_the_start_and_a_finite_gradient():
    head = CosineHead(offset=0.7)
    some = np.where(np.arange(5)[:, None] < 3, X, 0.0)
    start, alone = (head.init(jax.random.PRNGKey(0), *a) for a in ((some, Z), (X[:3], Z[:3])))
    np.testing.assert_allclose(*(p["params"]["cosine_scale"] for p in (start, alone)), rtol=1e-5)
    grad = jax.grad(lambda x: head.apply(start, x, Z).sum())(0 * X)
    assert np.isfinite(grad).all()
    none = head.init(jax.random.PRNGKey(0), 0 * X, Z)
    np.testing.assert_allclose(head.apply(none, 0 * X, Z), 0.7, rtol=1e-6)
