"""Cumulative links: ordered levels from one score (proportional odds; McCullagh, JRSS B 1980).

    P(y <= k) = sigmoid(theta_k - s),  theta_0 < theta_1 < .. < theta_{C-2}

theta_0 is free and every step to the next is FLOOR + softplus(.), so that thresholds rise whatever
the parameters are, and no level's probability is ever 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.types import Array, HostArray

FLOOR = 1e-3


def steps(raw: Array) -> Array:
    """theta_k - theta_{k-1} [C - 2] of the raw parameters [C - 1]."""
    return FLOOR + jax.nn.softplus(raw[1:])


def thresholds(raw: Array) -> Array:
    """theta [C - 1], strictly rising."""
    return raw[0] + jnp.concatenate([jnp.zeros(1, raw.dtype), jnp.cumsum(steps(raw))])


def raw_of(theta: Sequence[float]) -> HostArray:
    """The raw parameters [C - 1] of thresholds; steps below twice FLOOR are made that large."""
    gaps = np.maximum(np.diff(np.asarray(theta, np.float64)), 2 * FLOOR) - FLOOR
    raw: HostArray = np.append(theta[:1], gaps + np.log(-np.expm1(-gaps))).astype(np.float32)
    return raw


def log_probabilities(score: Array, raw: Array) -> Array:
    """log P(y = k) [B, C] of scores [B]; finite for every finite score, and so are gradients.

    sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)), whose last factor depends on
    the thresholds alone.
    """
    cuts = thresholds(raw)[None, :] - score[:, None]
    zero = jnp.zeros_like(score)[:, None]
    below = jnp.concatenate([jax.nn.log_sigmoid(cuts), zero], 1)  # log P(y <= k)
    above = jnp.concatenate([zero, jax.nn.log_sigmoid(-cuts)], 1)  # log P(y > k - 1)
    edge = jnp.zeros(1, raw.dtype)
    between = jnp.concatenate([edge, jnp.log(-jnp.expm1(-steps(raw))), edge])
    return below + above + between


def start_thresholds(counts: HostArray) -> tuple[float, ...]:
    """Log-odds of P(y <= k) in the counts [C] of levels, half a row added to each."""
    smoothed = np.asarray(counts, np.float64) + 0.5
    below = np.cumsum(smoothed)[:-1]
    return tuple(float(v) for v in np.log(below) - np.log(smoothed.sum() - below))
