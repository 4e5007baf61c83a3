"""Losses per example: f(output, label, mask) -> [B], float32, finite wherever mask is 1.

Outputs are logits; nothing here takes a probability, so no softmax is ever applied twice.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array
from mtl_jax.tasks.classes import bce, cross_entropy, multilabel_bce

Loss = Callable[..., Array]


def mse(value: Array, label: Array, mask: Array) -> Array:
    """Squared error; value, label [B] in the label's unit."""
    return jnp.square(value - label)


def huber(value: Array, label: Array, mask: Array) -> Array:
    """Huber loss with delta 1 (Huber, 1964)."""
    return optax.huber_loss(value, label)


def soft_f1(logit: Array, label: Array, mask: Array) -> Array:
    """1 - soft F1 of the batch, the same value for each row: 1 - 2 TP / (2 TP + FP + FN).

    TP, FP, FN are sums of probabilities over the rows that the mask keeps, so that the mean over
    those rows is the loss and its gradient.
    """
    p = jax.nn.sigmoid(logit)
    tp = jnp.sum(p * label * mask)
    fp = jnp.sum(p * (1.0 - label) * mask)
    fn = jnp.sum((1.0 - p) * label * mask)
    return jnp.broadcast_to(1.0 - 2.0 * tp / jnp.maximum(2.0 * tp + fp + fn, 1e-6), logit.shape)


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "multilabel_bce": multilabel_bce,
    "cross_entropy": cross_entropy,
    "mse": mse,
    "huber": huber,
    "soft_f1": soft_f1,
}
# Those that take smooth, gamma and weights.
WITH_OPTIONS = ("bce", "multilabel_bce", "cross_entropy")


def sampled_softmax(
    own: Array, others: Array, own_log_q: Array, log_q: Array, keep: Array
) -> Array:
    """Softmax cross-entropy of a row's item against candidates, corrected for how they were drawn.

    own [B]: score of the row's item.  others [B, K]: scores of the candidates.  own_log_q [B],
    log_q [K]: log of how often each is expected among the candidates (Yi et al., RecSys 2019).
    keep [B, K]: 0 for padding and for candidates that are the row's own item.  Returns [B].
    """
    corrected = jnp.where(keep > 0, others - log_q[None, :], -jnp.inf)
    mine = (own - own_log_q)[:, None]
    return jax.nn.logsumexp(jnp.concatenate([mine, corrected], 1), axis=1) - mine[:, 0]


def bpr(own: Array, others: Array, own_log_q: Array, log_q: Array, keep: Array) -> Array:
    """Mean of -log sigmoid(own - other) over kept candidates (Rendle et al., UAI 2009). [B]."""
    pairs = jax.nn.softplus(others - own[:, None]) * keep
    return jnp.sum(pairs, 1) / jnp.maximum(jnp.sum(keep, 1), 1.0)


RETRIEVAL_LOSSES = {"sampled_softmax": sampled_softmax, "bpr": bpr}
# What a kind's output can be judged by; the first is its default.
KIND_LOSSES: dict[str, tuple[str, ...]] = {
    "binary": ("bce", "soft_f1"),
    "multilabel": ("multilabel_bce",),
    "multiclass": ("cross_entropy",),
    "ordinal": ("cross_entropy",),  # its output is log-probabilities, whose softmax they are
    "regression": ("mse", "huber"),
    "similarity": ("mse", "huber"),
    "retrieval": tuple(RETRIEVAL_LOSSES),
}


def losses_for(task: TaskSpec) -> tuple[str, ...]:
    """The losses of the task's output, its default first."""
    return KIND_LOSSES["binary" if task.probability else task.kind]
