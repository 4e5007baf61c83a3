"""A product and an activation of the encoder with backward passes written by hand.

Measured on MiniLM's train step on a CPU (float32, AVX-512): `product` 1.09, `gelu` 1.03 of what
automatic differentiation gives.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from mtl_jax.core.types import Array


@jax.custom_vjp
def product(x: Array, kernel: Array) -> Array:
    """x [..., M] @ kernel [M, N] -> [..., N].

    On a CPU the gradient of x multiplies by a transposed copy of the kernel: XLA would otherwise
    fold the transposition into the product, which runs slower than copying.
    """
    return x @ kernel


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _product_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    turned = jax.lax.platform_dependent(
        kernel,
        cpu=lambda k: jax.lax.optimization_barrier(k.T),
        default=lambda k: k.T,
    )
    flat_x, flat_g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return g @ turned, flat_x.T @ flat_g


product.defvjp(_product_forward, _product_backward)


def dense_product(
    x: Array,
    kernel: Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """`product` where `flax.linen.Dense` wants a dot_general."""
    if precision is not None or preferred_element_type is not None:
        raise NotImplementedError("set jax.default_matmul_precision instead")
    return product(x, kernel)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """x Phi(x) by erf (Hendrycks and Gimpel, arXiv:1606.08415), never the tanh approximation."""
    return x * _normal_cdf(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + erf(x * math.sqrt(0.5)))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return x * _normal_cdf(x), x


def _gelu_backward(x: Array, g: Array) -> tuple[Array]:
    density = jnp.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return (g * (_normal_cdf(x) + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)
