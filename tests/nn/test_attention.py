"""The kernels of attention against each other, on a CPU: Pallas interpreted."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.nn import attention as attention_module
from mtl_jax.nn.attention import attend, attention, by_flash, segments_of
from mtl_jax.nn.encoder_config import EncoderConfig
from mtl_jax.nn.flash import flash

IDS = np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 8, axis=1).astype(np.int32)  # [2, 32]


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(2, 2, 96, 16)), jnp.float32) for _ in range(4)]


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("ids", ["sorted", "mixed"])
def test_flash_gives_what_the_mask_gives_in_values_and_gradients(states, ids, rate):
    *qkv, weight = states
    parts = np.repeat([[1, 2, 3, 0], [1, 1, 2, 2]], 24, axis=1).astype(np.int32)  # [2, 96]
    parts[0, 50:58], parts[1, 8:] = 2, 0  # ends within a block of keys; blocks of padding alone
    if ids == "mixed":  # as a mask may have it
        parts = np.random.default_rng(3).permuted(parts, axis=1)
    segments = segments_of(None, parts, parts.shape)
    real = np.broadcast_to((parts > 0)[:, None, :, None], weight.shape)
    key = jax.random.key(7)

    def loss(how):
        return lambda *x: jnp.sum(jnp.where(real, how(*x) * weight, 0.0))  # padding means nothing

    def kernel(*x):
        return by_flash(*x, segments.ids, rate, key, interpret=True)

    def mask(*x):
        return attend(*x, segments.allowed, rate, key)

    np.testing.assert_allclose(kernel(*qkv)[real], mask(*qkv)[real], atol=2e-5)
    assert np.isfinite(kernel(*qkv)).all()
    ours, theirs = (jax.grad(loss(f), argnums=(0, 1, 2))(*qkv) for f in (mask, kernel))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(b, a, atol=5e-5)
    no_one = attend(*qkv, None, rate, key)
    assert np.abs(np.asarray(mask(*qkv) - no_one)).max() > 0.1, "segments matter here"


def test_flash_is_compiled_for_a_gpu_that_is_not_here():
    x = jax.ShapeDtypeStruct((4, 512, 12, 64), jnp.bfloat16)
    ids, seed = jax.ShapeDtypeStruct((4, 512), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.uint32)

    def loss(q, k, v, ids, seed):
        return flash(q, k, v, ids, seed, 0.1).astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(x, x, x, ids, seed)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "flash_forward" in text
    assert "flash_backward" in text
    assert "512x512" not in text, "nothing of [L, L] is stored"


def test_a_mask_and_segments_are_both_heeded():
    mask = (np.arange(32) < 20).astype(np.int32)[None].repeat(2, 0)
    both = segments_of(mask, IDS, IDS.shape)
    np.testing.assert_array_equal(both.ids, IDS * mask)
    real = np.asarray(both.ids) > 0
    same = np.asarray(both.ids)[:, :, None] == np.asarray(both.ids)[:, None, :]
    allowed = np.asarray(both.allowed)[:, 0]
    np.testing.assert_array_equal(allowed[real], (same & real[:, None, :])[real])
    assert segments_of(None, None, (2, 32)).ids is None


@pytest.mark.parametrize(
    ("made", "devices", "suits"),
    [("9.0", 1, True), ("7.5", 1, False), ("gfx90a", 1, False), ("9.0", 2, False)],
)
def test_auto_takes_flash_on_one_new_nvidia_gpu_alone(monkeypatch, made, devices, suits):
    gpu = SimpleNamespace(compute_capability=made)
    monkeypatch.setattr(attention_module.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention_module.jax, "devices", lambda: [gpu] * devices)
    monkeypatch.setattr(attention_module.jax, "device_count", lambda: devices)
    assert attention_module._flash_suits(96, 32) == suits
    assert not attention_module._flash_suits(40, 32), "rows that it cannot read"


def test_what_a_kernel_cannot_do_is_refused(states):
    *qkv, _ = states
    segments = segments_of(None, None, (2, 96))
    with pytest.raises(UserError, match="needs a GPU: use auto"):
        attention("flash", *qkv, segments)
    np.testing.assert_array_equal(attention("auto", *qkv, segments), attend(*qkv, None))
    for shape in ((1, 1, 40, 16), (1, 1, 32, 24)):
        with pytest.raises(UserError, match=f"rows of {shape[2]} tokens and heads of depth"):
            by_flash(*[jnp.zeros(shape)] * 3, None)
    with pytest.raises(UserError, match="attention"):
        EncoderConfig("bert", 60, 16, 1, 2, 32, 32, attention="cudnn")


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
