"""The optimiser of everything but tables: optax, with rates and decay by path."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.core.trees import check_rules, first_match, map_by_path, paths
from mtl_jax.core.types import Array, Params
from mtl_jax.train.config import OptimConfig


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then cosine to final * rate, or constant."""
    peak, warmup = config.learning_rate, min(config.warmup, max(steps - 1, 0))
    if config.schedule == "constant":
        after: optax.Schedule = optax.constant_schedule(peak)
    else:
        after = optax.cosine_decay_schedule(peak, max(steps - warmup, 1), config.final)
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make(config: OptimConfig, params: Params, steps: int) -> optax.GradientTransformation:
    """The chain: moments, decoupled decay where it applies, rate by path, schedule.

    Clipping is done before it, since the norm counts the tables' rows too.
    """
    rules = [
        (p, f) for p, f in config.rates if not p.startswith("^encoder/") or "encoder" in params
    ]
    check_rules(rules, paths(params), "optim.rates")
    check_rules(config.decays, paths(params), "optim.decays")
    none = [(n, 0.0) for n in config.no_decay]
    decays = map_by_path(lambda p, _: first_match([*none, *config.decays], p, config.decay), params)
    factors = map_by_path(lambda p, _: first_match(rules, p, 1.0), params)
    moments = {
        "adamw": optax.scale_by_adam(config.beta1, config.beta2),
        "adam": optax.scale_by_adam(config.beta1, config.beta2),
        "sgd": optax.trace(config.momentum),
    }[config.name]
    return optax.chain(
        moments,
        optax.identity() if config.name == "adam" else _decay_by_tree(decays),
        _scale_by_tree(factors),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def _decay_by_tree(decays: Any) -> optax.GradientTransformation:
    """Decoupled decay, every parameter its own."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda u, p, d: u + d * p, updates, params, decays), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale_by_tree(factors: Any) -> optax.GradientTransformation:
    """Every update times its own constant."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return optax.tree.mul(updates, factors), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_factor(config: OptimConfig, norm: Array) -> Array:
    """What gradients are multiplied by so that their global norm is at most `clip`."""
    if not config.clip:
        return jnp.float32(1.0)
    return jnp.minimum(1.0, config.clip / jnp.maximum(norm, 1e-12))
