"""Dropout by a hash of an entry's place.

A generator of JAX's draws a number in some 50 operations, which on a CPU were an eighth of MiniLM's
training step; whether an entry stays does not ask for that much.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array

LEVELS = 1 << 24  # of a rate


def seed_of(key: Array) -> Array:
    """uint32 [2] from a key."""
    return jax.random.bits(key, (2,), jnp.uint32)


def drawn(places: Array, seed: Array) -> Array:
    """Numbers 0 .. `LEVELS` - 1 (int32), one for each uint32 of `places`.

    Wellons' triple32 hash, seed [2] taken in at its start and behind its first product.
    """
    x = places ^ seed[0]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x = (x ^ (x >> 11) ^ seed[1]) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return ((x ^ (x >> 14)) >> 8).astype(jnp.int32)


def keep_mask(key: Array, shape: tuple[int, ...], rate: float) -> tuple[Array, float]:
    """(bool `shape`, true with the second value as probability: 1 - rate to within 1e-7).

    An entry's draw depends on the key and on its number in row-major order alone.
    """
    places = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    lost = round(rate * LEVELS)
    return drawn(places, seed_of(key)) >= lost, 1.0 - lost / LEVELS


def drop(x: Array, rate: float, key: Array | None) -> Array:
    """Entries of x to 0 with probability `rate`, the others divided by the probability to stay.

    key None: x as it is.
    """
    if key is None or rate == 0.0:
        return x
    keep, share = keep_mask(key, x.shape, rate)
    return jnp.where(keep, x / max(share, 1.0 / LEVELS), 0.0).astype(x.dtype)


class Dropout(nn.Module):
    """`drop` by the rng collection "dropout" (Srivastava et al., JMLR 2014)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        """x of any shape with at least one axis."""
        if deterministic or self.rate == 0.0:
            return x
        return drop(x, self.rate, self.make_rng("dropout"))
