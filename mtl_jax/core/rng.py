"""Keys folded with a step and a name, so that no key is ever split in an order that matters."""

import zlib

import jax

from mtl_jax.core.types import Array


def key_for(key: Array, name: str, step: Array | int = 0) -> Array:
    """The key of (`key`, `step`, `name`); the same three always give the same key."""
    return jax.random.fold_in(jax.random.fold_in(key, step), zlib.crc32(name.encode()) & 0x7FFFFFFF)
