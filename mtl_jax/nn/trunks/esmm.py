"""Entire-space model (Ma et al., SIGIR 2018, equations 1, 3 and 4), for a chain of any length.

Task i of `chain` has the head's logit a_i, read as log-odds of "i given all before it".  Its output
is the logit of the product p_i = sigmoid(a_1) .. sigmoid(a_i), so that its loss is that of the
label over *all* rows, never over those clicked only, and p_i <= p_(i-1) everywhere:
    logit(p q) = -log(exp(-a) + exp(-b) + exp(-a - b)),  p = sigmoid(a), q = sigmoid(b),
which overflows nowhere. The loss of a later task so reaches the heads before it; an earlier task's
loss does not reach the heads after it.

All read one shared bottom; the paper shares the embeddings only (`trunk_widths=()`, with
`head_width` for the towers). Tasks outside the chain have plain heads over the same bottom.
Parameters: layer_<n>, norm_<n>, all shared.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Trunk, layers, read


def product_logit(a: Array, b: Array) -> Array:
    """logit(sigmoid(a) sigmoid(b)) of logits [B], exact and finite wherever a and b are."""
    return -jax.nn.logsumexp(jnp.stack([-a, -b, -a - b]), axis=0)


def conditional_starts(chain: tuple[str, ...], log_odds: Mapping[str, float]) -> dict[str, float]:
    """Log-odds of p_i / p_(i-1) for each task after the first, from the labels' base log-odds.

    With them the first step predicts the base rate of the *product*. A share above 0.99 (labels of
    different rows) counts as 0.99: it is a start and no more.
    """
    share = {task: 1.0 / (1.0 + math.exp(-log_odds.get(task, 0.0))) for task in chain}
    found = {}
    for before, task in pairwise(chain):
        q = min(share[task] / share[before], 0.99)
        found[task] = math.log(q / (1.0 - q))
    return found


class ESMM(nn.Module):
    """z [B, Dz] -> heads over one bottom; a chain task's output is the logit of the product."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = layers(c, read(c, z, deterministic), deterministic)
        outputs = {task: head(x) for task, head in heads.items()}
        for before, task in pairwise(c.chain):
            outputs[task] = product_logit(outputs[before], outputs[task])
        return Trunk(outputs, {}, {})
