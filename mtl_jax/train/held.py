"""Weights that stay for some steps: what is kept where gradients are looked at every k steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.balance import Balancer, Stats
from mtl_jax.balance.gramian import telemetry
from mtl_jax.core.types import Array
from mtl_jax.train.config import BalanceConfig


class Held(NamedTuple):
    """The balancer's own state, and weights [T], info and telemetry of its last look."""

    inner: Any
    weights: Array
    info: dict[str, Array]
    seen: dict[str, Array]


def holds(balancer: Balancer, config: BalanceConfig) -> bool:
    """Whether weights are kept between looks."""
    return config.gram_every > 1 and balancer.needs in ("gram", "cross_gram")


def hold(inner: Any, balancer: Balancer, n_tasks: int) -> Held:
    """Before the first look: all weights 0, and so until a look finds a task present."""
    ones, square = jnp.ones(n_tasks), jnp.eye(n_tasks)
    stats = Stats(ones, ones, jnp.int32(0), square, square)
    key = jax.random.PRNGKey(0)
    info = jax.eval_shape(lambda: balancer.update(stats, inner, key).info)
    seen = jax.eval_shape(lambda: telemetry(square, ones))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (info, seen))
    return Held(inner, jnp.zeros(n_tasks), *zeros)
