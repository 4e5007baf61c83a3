"""The kernels of attention against each other, on a CPU: Pallas interpreted, JAX's own by XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.nn import attention as attention_module
from mtl_jax.nn.attention import attend, attention, by_segments, fused, segments_of
from mtl_jax.nn.encoder_config import EncoderConfig

IDS = np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 8, axis=1).astype(np.int32)  # [2, 32]


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(2, 2, 32, 16)), jnp.float32) for _ in range(4)]


@pytest.mark.parametrize("kernel", ["pallas", "xla"])
def test_kernels_agree_within_segments_in_values_and_gradients(states, kernel):
    *qkv, weight = states
    segments = segments_of(None, IDS, IDS.shape)
    weight = weight * (IDS > 0)[:, None, :, None]  # padding's own means nothing

    def loss(how):
        return lambda *x: jnp.sum(how(*x) * weight)

    def other(*x):
        if kernel == "pallas":
            return by_segments(*x, segments.ids, interpret=True)
        return fused(*x, segments.allowed, "xla")

    def mask(*x):
        return attend(*x, segments.allowed)

    real = np.broadcast_to((IDS > 0)[:, None, :, None], qkv[0].shape)
    np.testing.assert_allclose(other(*qkv)[real], mask(*qkv)[real], atol=1e-5)
    assert np.isfinite(other(*qkv)).all()
    ours, theirs = (jax.grad(loss(f), argnums=(0, 1, 2))(*qkv) for f in (mask, other))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5)
    no_one = attend(*qkv, None)
    assert np.abs(np.asarray(mask(*qkv) - no_one)).max() > 0.1, "segments matter here"


def test_a_mask_and_segments_are_both_heeded():
    mask = (np.arange(32) < 20).astype(np.int32)[None].repeat(2, 0)
    both = segments_of(mask, IDS, IDS.shape)
    np.testing.assert_array_equal(both.ids, IDS * mask)
    real = np.asarray(both.ids) > 0
    same = np.asarray(both.ids)[:, :, None] == np.asarray(both.ids)[:, None, :]
    allowed = np.asarray(both.allowed)[:, 0]
    np.testing.assert_array_equal(allowed[real], (same & real[:, None, :])[real])
    assert segments_of(None, None, (2, 32)).ids is None


def test_what_a_kernel_cannot_do_is_refused(states):
    *qkv, _ = states
    segments = segments_of(None, IDS, IDS.shape)
    with pytest.raises(UserError, match="needs a GPU: use mask"):
        attention("pallas", *qkv, segments)
    long = [jnp.zeros((1, 1, 96, 16))] * 3
    with pytest.raises(UserError, match=r"rows of 96 tokens.*multiple of 128"):
        by_segments(*long, None)
    with pytest.raises(UserError, match="needs attention_dropout=0"):
        EncoderConfig("bert", 60, 16, 1, 2, 32, 32, attention="cudnn")
    with pytest.raises(UserError, match="attention"):
        EncoderConfig("bert", 60, 16, 1, 2, 32, 32, attention="flash")


@pytest.mark.parametrize("rows", [1, 5, 8])
@pytest.mark.parametrize("kind", ["segments", "mask", "all"])
def test_a_few_rows_at_a_time_is_the_same(monkeypatch, rows, kind):
    rng = np.random.default_rng(1)
    qkv = [jnp.asarray(rng.normal(size=(rows, 2, 16, 4)), jnp.float32) for _ in range(3)]
    ids = jnp.asarray(np.sort(rng.integers(0, 4, (rows, 16)), 1), jnp.int32)
    asked = {"segments": (None, ids), "mask": (ids, None), "all": (None, None)}[kind]
    allowed = segments_of(*asked, ids.shape).allowed

    def found(limit):
        monkeypatch.setattr(attention_module, "IN_CACHE", limit)
        return jax.value_and_grad(lambda *x: jnp.sum(attend(*x, allowed) ** 2), (0, 1, 2))(*qkv)

    whole, parts = found(10**9), found(2 * 2 * 16 * 16)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_rows_taken_apart_drop_apart(monkeypatch):
    rng = np.random.default_rng(2)
    row = jnp.asarray(rng.normal(size=(1, 1, 16, 4)), jnp.float32)
    same = jnp.broadcast_to(row, (6, 1, 16, 4))
    monkeypatch.setattr(attention_module, "IN_CACHE", 2 * 16 * 16)
    found = np.asarray(attend(same, same, same, None, 0.5, jax.random.key(0)))
    assert len({x.tobytes() for x in found}) == 6
    np.testing.assert_allclose(found.mean(0), attend(row, row, row, None)[0], atol=1.0)
