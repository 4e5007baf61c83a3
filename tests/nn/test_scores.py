"""Scores against plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.nn import scores
from mtl_jax.nn.config import ModelConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")
RNG = np.random.default_rng(0)
D, B, U, H, C = 4, 5, 7, 3, 6


def test_collaborative_is_a_biased_inner_product():
    u, i = RNG.normal(size=(2, B, D)).astype(np.float32)
    bu, bi = RNG.normal(size=(2, B)).astype(np.float32)
    got = scores.collaborative(u, i, bu, bi, jnp.float32(3.5))
    by_hand = [u[r] @ i[r] / np.sqrt(D) + bu[r] + bi[r] + 3.5 for r in range(B)]
    np.testing.assert_allclose(got, by_hand, rtol=1e-5)


def test_content_is_the_cosine_between_history_and_item_texts():
    text = RNG.normal(size=(U, 8)).astype(np.float32)
    item = np.array([1, 2, 3, 4, 0])
    hist = np.array([[2, 3, 0], [2, 0, 0], [0, 0, 0], [5, 6, 4], [1, 0, 0]])
    mean, best = jax.jit(scores.content)(text, item, hist)
    for r in range(B):
        real = [
            text[item[r]] @ text[j] / np.linalg.norm(text[item[r]]) / np.linalg.norm(text[j])
            for j in hist[r]
            if j > 0
        ]
        assert np.isclose(mean[r], np.mean(real) if real else 0.0, atol=1e-5)
        w = np.exp(10 * np.array(real))
        assert np.isclose(best[r], (w * real).sum() / w.sum() if real else 0.0, atol=1e-5)
    assert np.isclose(best[1], 1.0, atol=1e-5), "the item itself lies in the history"


def test_content_of_an_item_without_text_is_finite():
    text = np.zeros((U, 8), np.float32)
    at = np.ones(B, np.int32)
    found, grad = jax.value_and_grad(
        lambda t: scores.content(t, at, np.ones((B, H), int))[0].sum()
    )(text)
    assert found == 0.0
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_pairs_are_products_of_rows(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(scores, "IN_CACHE", 2 * H * 8)  # two rows at a time, the last one alone
    rows, table = (RNG.normal(size=(n, 8)).astype(np.float32) for n in (B, U))
    index, g = RNG.integers(0, U, (B, H)), RNG.normal(size=(B, H)).astype(np.float32)
    found, back = jax.vjp(lambda r, t: scores.pairs(r, t, index), rows, table)
    wanted, right = jax.vjp(lambda r, t: jnp.einsum("bd,bhd->bh", r, t[index]), rows, table)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    for a, b in zip(back(g), right(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_interest_is_the_log_probability_of_the_items_category():
    logits = RNG.normal(size=(B, C)).astype(np.float32)
    category = np.array([1, 5, 0, 2, 2])
    got = scores.interest(logits, category)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    by_hand = np.where(category > 0, log_p[np.arange(B), category], 0.0)
    np.testing.assert_allclose(got, by_hand, rtol=1e-5)


def test_the_fusion_is_a_gated_sum_and_the_gate_sums_to_1():
    fusion = scores.Fusion(ModelConfig(width=D))
    s = RNG.normal(size=(B, 4)).astype(np.float32)
    context, user = RNG.normal(size=(2, B, D)).astype(np.float32)
    params = fusion.init(jax.random.PRNGKey(0), s, context, user)["params"]
    fused, gate = fusion.apply({"params": params}, s, context, user)
    np.testing.assert_allclose(gate, 0.25), "it starts even"
    np.testing.assert_allclose(fused, s.mean(1), rtol=1e-5)
    params = jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=x.shape), jnp.float32), params)
    fused, gate = fusion.apply({"params": params}, s, context, user)
    np.testing.assert_allclose(gate.sum(1), 1.0, rtol=1e-5)
    assert np.ptp(np.asarray(gate), axis=0).min() > 0.01, "it depends on context and user"
    by_hand = (np.asarray(gate) * (s * params["scale"] + params["shift"])).sum(1)
    np.testing.assert_allclose(fused, by_hand, rtol=1e-5)
