"""Methods that remember gradients: MoCo, DB-MTL, ExcessMTL; and GradDrop, which masks them.

They read task gradients leaf by leaf, and their states have that shape. Rows of embedding tables
are other rows in every batch and stay outside: they get `weights` of this step's gradients.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mtl_jax.balance.gramian import gramian, over
from mtl_jax.balance.keep import keep_absent, softmax_of
from mtl_jax.balance.stats import Stats, Update
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array


def zeros_like_grads(name: str, n_tasks: int, grads_like: Any) -> Any:
    """A zero for every task and entry of the tree; UserError where there is no tree."""
    if grads_like is None:
        raise UserError(f"balancer {name!r} remembers gradients: it needs init(T, grads_like=tree)")
    return jax.tree.map(lambda x: jnp.zeros((n_tasks, *x.shape), jnp.float32), grads_like)


def _column(values: Array, like: Array) -> Array:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def combined(weights: Array, grads: Any) -> Any:
    """sum_t w_t g_t for a tree with leaves [T, ...]; tasks of weight 0 may hold anything."""

    def one(g: Array) -> Array:
        # Term by term, which is one pass; XLA's CPU reduction over a leading axis takes several.
        terms = [jnp.where(w != 0, w * x, 0.0) for w, x in zip(weights, g, strict=True)]
        return sum(terms[1:], terms[0])

    return jax.tree.map(one, grads)


def _scaled(by: Array, grads: Any) -> Any:
    """by_t g_t, a tree with leaves [T, ...]."""
    return jax.tree.map(lambda g: _column(by, g) * g, grads)


def _norms(grads: Any) -> Array:
    return jnp.sqrt(jnp.maximum(jnp.diagonal(gramian(grads)), 0.0))


@dataclass(frozen=True)
class MoCo:
    """MoCo (Fernando et al., ICLR 2023): MGDA's weights by small steps on smoothed gradients.

    y <- y - beta / k^sigma (y - L_t g_t / |g_t|), w <- softmax(w - gamma / k^sigma (y y' + rho) w),
    the update is sum_t w_t y_t; k counts the steps at which a task was present.
    """

    beta: float = 0.5
    beta_sigma: float = 0.5
    gamma: float = 0.1
    gamma_sigma: float = 0.5
    rho: float = 0.0
    needs: ClassVar[str] = "grads"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """y, the weights and the counters."""
        zeros = jnp.zeros((n_tasks,), jnp.float32)
        y = zeros_like_grads("moco", n_tasks, grads_like)
        return {"y": y, "w": zeros + 1.0 / n_tasks, "seen": zeros}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The direction; weights w L / |g| for what lies outside the tree."""
        present, seen = stats.present, state["seen"] + 1.0
        by = jnp.where(present > 0, over(stats.losses, _norms(stats.grads)), 0.0)
        rate = self.beta / seen**self.beta_sigma
        moved = jax.tree.map(
            lambda y, g: y - _column(rate, y) * (y - g), state["y"], _scaled(by, stats.grads)
        )
        y = keep_absent(present, moved, state["y"])
        slope = gramian(y) @ state["w"] + self.rho * state["w"]
        w = softmax_of(state["w"] - self.gamma / seen**self.gamma_sigma * slope, present)
        new = {"y": y, "w": w, "seen": seen}
        new = keep_absent(present, new, state)
        return Update(w * by, new, {"w": w}, combined(w, y))


@dataclass(frozen=True)
class DBMTL:
    """DB-MTL (Lin et al., 2308.12029): smoothed gradients of log L, all as long as the longest.

    buffer <- g + beta / k^sigma (buffer - g), g the gradient of log(L + 1e-8).
    """

    beta: float = 0.9
    beta_sigma: float = 0.0
    needs: ClassVar[str] = "grads"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """The buffer and the counters."""
        seen = jnp.zeros((n_tasks,), jnp.float32)
        return {"buffer": zeros_like_grads("db_mtl", n_tasks, grads_like), "seen": seen}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The direction; weights longest / (|buffer| L) for what lies outside the tree."""
        present, seen = stats.present, state["seen"] + 1.0
        by = jnp.where(present > 0, 1.0 / (stats.losses + 1e-8), 0.0)
        rate = self.beta / seen**self.beta_sigma
        moved = jax.tree.map(
            lambda b, g: g + _column(rate, b) * (b - g), state["buffer"], _scaled(by, stats.grads)
        )
        new = keep_absent(present, {"buffer": moved, "seen": seen}, state)
        norm = jnp.where(present > 0, _norms(new["buffer"]), 0.0)
        stretch = over(jnp.broadcast_to(jnp.max(norm), norm.shape), norm)
        info = {"stretch": stretch}
        return Update(stretch * by, new, info, combined(stretch, new["buffer"]))


@dataclass(frozen=True)
class ExcessMTL:
    """ExcessMTL (He et al., ICML 2024): weights by excess risk g' H^-1 g, H AdaGrad's diagonal.

    w <- w exp(step_size e_t / e_t at first), normed to sum T; the first step weighs all 1.
    """

    step_size: float = 0.01
    needs: ClassVar[str] = "grads"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """Sums of squares in the shape of gradients, weights, first excess risks (0 = unknown)."""
        squares = zeros_like_grads("excess_mtl", n_tasks, grads_like)
        log_w, first = jnp.zeros((2, n_tasks), jnp.float32)
        return {"squares": squares, "log_w": log_w, "first": first}

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """Weights of this step's gradients."""
        present = stats.present
        grads = jax.tree.map(lambda g: jnp.where(_column(present, g) > 0, g, 0.0), stats.grads)
        squares = jax.tree.map(lambda s, g: s + jnp.square(g), state["squares"], grads)

        def risk(s: Array, g: Array) -> Array:
            parts = over(jnp.square(g), jnp.sqrt(s))
            return jnp.sum(parts.reshape(parts.shape[0], -1), -1)

        excess = jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(risk, squares, grads))), 0)
        known = state["first"] > 0
        relative = excess / jnp.where(known, state["first"], 1.0)
        log_w = state["log_w"] + jnp.where(known, self.step_size * relative, 0.0)
        n = jnp.sum(present)
        weights = n * softmax_of(log_w, present)
        # What the present tasks weigh together stays, so that one that was away has lost nothing.
        there = present > 0
        total, before = (jax.nn.logsumexp(x, where=there) for x in (log_w, state["log_w"]))
        log_w = log_w - jnp.where(there.any(), total - before, 0.0)
        new = {
            "squares": squares,
            "log_w": log_w,
            "first": jnp.where(known, state["first"], excess),
        }
        new = keep_absent(present, new, state)
        return Update(weights, new, {"excess": relative})


@dataclass(frozen=True)
class GradDrop:
    """GradDrop (Chen et al., NeurIPS 2020): every entry keeps the tasks of one sign, at random.

    P = (1 + sum_t g_t / sum_t |g_t|) / 2 is the chance of the positive ones. leak: the share of
    every gradient that passes whatever was drawn. Entry by entry, on z or on parameters; rows of
    embedding tables are summed.
    """

    leak: float = 0.0
    needs: ClassVar[str] = "grads"
    ahead: ClassVar[bool] = False

    def init(self, n_tasks: int, grads_like: Any = None) -> Any:
        """No state."""
        return ()

    def update(self, stats: Stats, state: Any, key: Array) -> Update:
        """The direction; all randomness is `key`."""
        leaves, tree = jax.tree.flatten(stats.grads)

        def one(g: Array, k: Array) -> Array:
            g = jnp.where(_column(stats.present, g) > 0, g, 0.0)
            total, size = jnp.sum(g, 0), jnp.sum(jnp.abs(g), 0)
            chance = 0.5 * (1.0 + over(total, size))
            drawn = jax.random.uniform(k, total.shape)
            kept = ((chance > drawn) & (g > 0)) | ((chance < drawn) & (g < 0))
            return jnp.sum(g * (self.leak + (1.0 - self.leak) * kept), 0)

        keys = jax.random.split(key, len(leaves))
        found = [one(g, k) for g, k in zip(leaves, keys, strict=True)]
        return Update(stats.present, state, {}, jax.tree.unflatten(tree, found))
