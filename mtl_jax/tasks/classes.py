"""Cross-entropies of classes, with label smoothing, focal factor and class weights.

Each is w_t (1 - p_t)^gamma CE(p, y'), as `optax.sigmoid_focal_loss` has it: y' is the smoothed
label, 1 - p_t = sum_c y'_c (1 - p_c) (Lin et al., ICCV 2017, eq. 4) and w_t = sum_c y_c w_c of the
label as it was given. Reductions divide by the number of rows, not by the sum of their weights.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.core.types import Array, HostArray

Weights = tuple[float, ...]


def bce(
    logit: Array,
    label: Array,
    mask: Array,
    smooth: float = 0.0,
    gamma: float = 0.0,
    weights: Weights = (),
) -> Array:
    """Binary cross-entropy; logit, label [B], label in [0, 1]; weights of 0 and of 1."""
    y = (1.0 - smooth) * label + smooth / 2 if smooth else label
    if gamma:
        loss = optax.sigmoid_focal_loss(logit, y, gamma=gamma)
    else:
        loss = optax.sigmoid_binary_cross_entropy(logit, y)
    if weights:
        loss = loss * ((1.0 - label) * weights[0] + label * weights[1])
    return loss


def multilabel_bce(
    logits: Array,
    label: Array,
    mask: Array,
    smooth: float = 0.0,
    gamma: float = 0.0,
    weights: Weights = (),
) -> Array:
    """Mean binary cross-entropy of a row's known labels [B]; logits, label [B, C], -1 = unknown.

    weights: of 0 and of 1 of the first label, of the second, ...
    """
    known = label >= 0
    y = jnp.maximum(label, 0.0)
    each = bce(logits, y, mask, smooth, gamma)
    if weights:
        of_0, of_1 = jnp.asarray(weights).reshape(-1, 2).T
        each = each * ((1.0 - y) * of_0 + y * of_1)
    return jnp.sum(jnp.where(known, each, 0.0), -1) / jnp.maximum(jnp.sum(known, -1), 1)


def cross_entropy(
    logits: Array,
    label: Array,
    mask: Array,
    smooth: float = 0.0,
    gamma: float = 0.0,
    weights: Weights = (),
) -> Array:
    """Softmax cross-entropy; logits [B, C]; label [B] of class numbers or [B, C] of soft labels."""
    if label.ndim < logits.ndim:
        classes = jnp.maximum(label, 0).astype(jnp.int32)  # masked rows may hold -1
        if not (smooth or gamma or weights):
            return optax.softmax_cross_entropy_with_integer_labels(logits, classes)
        label = jax.nn.one_hot(classes, logits.shape[-1])
    y = optax.smooth_labels(label, smooth) if smooth else label
    loss = optax.softmax_cross_entropy(logits, y)
    if gamma:
        # 1 - p_t = sum_c (1 - y_c) p_c, in logarithms: nothing is lost where p_t is almost 1
        logp = jax.nn.log_softmax(logits, axis=-1)
        loss = loss * jnp.exp(gamma * jax.nn.logsumexp(logp, axis=-1, b=1.0 - y))
    if weights:
        loss = loss * (label @ jnp.asarray(weights))
    return loss


def balanced(counts: HostArray) -> Weights:
    """n / (C n_c) of class counts [C], or [L, C] label by label; 0 for one that never occurs."""
    rows = np.atleast_2d(np.asarray(counts, np.float64))
    n, occurring = rows.sum(-1, keepdims=True), (rows > 0).sum(-1, keepdims=True)
    found = np.divide(n, occurring * rows, out=np.zeros_like(rows), where=rows > 0)
    return tuple(float(w) for w in found.ravel())
