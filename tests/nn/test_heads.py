import jax
import numpy as np
import pytest

from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.heads import Head, RetrievalHead

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
