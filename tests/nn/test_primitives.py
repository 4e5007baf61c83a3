"""Hand-written backward passes against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.nn.primitives import dense_product, gelu, product

KEYS = jax.random.split(jax.random.PRNGKey(0), 3)


def test_product() -> None:
    x, w, g = (
        jax.random.normal(k, s) for k, s in zip(KEYS, ((2, 3, 5), (5, 7), (2, 3, 7)), strict=True)
    )
    y, back = jax.vjp(product, x, w)
    wanted, wanted_back = jax.vjp(lambda x, w: jnp.einsum("bim,mn->bin", x, w), x, w)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    for found, right in zip(back(g), wanted_back(g), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


def test_precision_is_not_ignored() -> None:
    with pytest.raises(NotImplementedError, match="default_matmul_precision"):
        dense_product(jnp.ones((1, 1)), jnp.ones((1, 1)), None, jax.lax.Precision.HIGHEST)


def test_gelu() -> None:
    x = jnp.linspace(-12.0, 12.0, 401)
    right = jax.vmap(jax.grad(lambda v: jax.nn.gelu(v, approximate=False)))(x)
    # 1 + erf cancels below x = -5, where the value is under 1e-6, as it does in torch.
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), right, rtol=1e-5, atol=1e-6)
