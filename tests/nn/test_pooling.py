import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.nn.pooling import pool, pool_rows

H = 5
OWNER = np.array([[2, 2, 2, 0, 0, 3], [3, 3, 3, 3, 3, 3]], np.int32)  # text 1 has no token
POSITION = np.array([[0, 1, 2, 0, 1, 0], [0, 0, 0, 0, 0, 0]], np.int32)
RNG = np.random.default_rng(0)
HIDDEN = RNG.normal(size=(2, 6, H)).astype(np.float32)
POOLER = {
    "kernel": RNG.normal(size=(H, H)).astype(np.float32),
    "bias": RNG.normal(size=H).astype(np.float32),
}


def expected(kind):
    texts = {0: HIDDEN[0, 3:5], 2: HIDDEN[0, :3]}
    out = np.zeros((3, H), np.float32)
    for text, states in texts.items():
        first = states[0]
        out[text] = {
            "mean": states.mean(0),
            "cls": first,
            "pooler": np.tanh(first @ POOLER["kernel"] + POOLER["bias"]),
        }[kind]
    return out


@pytest.mark.parametrize("kind", ["mean", "cls", "pooler"])
def test_packed_texts_get_their_own_vectors_and_an_empty_one_zeros(kind):
    run = jax.jit(lambda h: pool(h, OWNER, POSITION, 3, kind, POOLER))
    np.testing.assert_allclose(run(HIDDEN), expected(kind), atol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "cls", "pooler"])
def test_rows_pool_as_packed_texts_do(kind):
    rows = np.zeros((3, 4, H), np.float32)
    mask = np.zeros((3, 4), np.int32)
    rows[0, :2], mask[0, :2] = HIDDEN[0, 3:5], 1
    rows[2, :3], mask[2, :3] = HIDDEN[0, :3], 1
    rows[mask == 0] = 99.0
    np.testing.assert_allclose(pool_rows(rows, mask, kind, POOLER), expected(kind), atol=1e-6)


def test_rows_without_a_mask_count_every_token():
    np.testing.assert_allclose(pool_rows(HIDDEN, None, "mean"), HIDDEN.mean(1), atol=1e-6)


def test_padding_reaches_neither_the_sum_nor_the_gradient():
    wild = jnp.asarray(HIDDEN).at[1].set(jnp.inf)
    for kind in ("mean", "cls"):
        assert np.isfinite(pool(wild, OWNER, POSITION, 3, kind)).all()
    gradient = jax.grad(lambda h: pool(h, OWNER, POSITION, 3, "mean").sum())(jnp.asarray(HIDDEN))
    assert np.asarray(gradient[1] == 0).all()
    np.testing.assert_allclose(gradient[0, :3], np.full((3, H), 1 / 3), rtol=1e-6)


def test_sums_are_float32_whatever_the_states_are():
    ones = jnp.ones((1, 4096, 1), jnp.bfloat16)
    out = pool(ones, np.zeros((1, 4096), np.int32), np.zeros((1, 4096), np.int32), 1, "mean")
    assert out.dtype == jnp.float32
    assert out[0, 0] == 1.0  # a bfloat16 sum would stick at 256


def test_unknown_kinds_and_a_missing_pooler_are_refused():
    with pytest.raises(UserError, match="not known: one of mean, cls, pooler"):
        pool(HIDDEN, OWNER, POSITION, 3, "max")
    with pytest.raises(UserError, match="this encoder has none"):
        pool_rows(HIDDEN, None, "pooler")
