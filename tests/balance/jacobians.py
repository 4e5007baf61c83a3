"""Jacobians that are hard in different ways, and balancers run on them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import balance

KEY = jax.random.PRNGKey(0)
SIZES = (1, 2, 3, 8, 32, 64)


def jacobian(kind, n_tasks, seed=0, scale=1.0, spread=1.0):
    """J [T, 2T + 3] float64 of float32 values; rows' norms spread over `spread`."""
    rng = np.random.default_rng(seed)
    n = 2 * n_tasks + 3
    J = rng.normal(size=(n_tasks, n))
    if kind == "conflict":
        J -= 0.9 * J.mean(0)
    elif kind == "aligned":
        J += 2.0 * rng.normal(size=(1, n))
    elif kind == "low_rank":
        k = max(n_tasks // 2, 1)
        J = rng.normal(size=(n_tasks, k)) @ rng.normal(size=(k, n))
    elif kind == "rank_2":
        J = rng.normal(size=(n_tasks, 2)) @ rng.normal(size=(2, n))
    elif kind == "twins":
        J[-1] = J[0]
    elif kind == "zero_row":
        J[-1] = 0.0 if n_tasks > 1 else J[-1]
    elif kind == "stationary":
        J[-1] = -J[:-1].sum(0) if n_tasks > 1 else J[-1]
    norms = np.logspace(0, np.log10(spread), n_tasks) / np.sqrt(spread)
    return np.float32(J * norms[:, None] * scale).astype(np.float64)


@cache
def _update(name, n_tasks, options):
    b = balance.get(name, **dict(options))

    def update(stats, state, key):
        return b.update(stats, state, key)

    return b, jax.jit(update)


def run(name, J, losses=None, present=None, state=None, key=KEY, step=0, **options):
    """One update on J; the weights, info and so on as numpy, and the aggregate [n] float64."""
    T = len(J)
    b, update = _update(name, T, tuple(options.items()))
    stats = balance.Stats(
        jnp.asarray(np.ones(T) if losses is None else losses, jnp.float32),
        jnp.asarray(np.ones(T) if present is None else present, jnp.float32),
        jnp.int32(step),
        gram=jnp.asarray(J @ J.T, jnp.float32),
        cross_gram=jnp.asarray(J @ J.T, jnp.float32),
        grads={"x": jnp.asarray(J, jnp.float32)},
    )
    state = b.init(T, {"x": jnp.zeros(J.shape[1])}) if state is None else state
    found = update(stats, state, key)
    return found, aggregate(found, J)


def aggregate(update, J):
    """The update of the shared parameters [n] float64."""
    if update.direction is not None:
        return np.asarray(update.direction["x"], np.float64)
    return np.asarray(update.weights, np.float64) @ J


def close(a, b, tolerance=1e-4):
    """The largest difference over the largest entry of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    top = np.abs(b).max()
    assert np.isfinite(a).all()
    assert np.abs(a - b).max() <= tolerance * top, (a, b)
