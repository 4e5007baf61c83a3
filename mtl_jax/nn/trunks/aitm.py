"""Adaptive information transfer (Xi et al., KDD 2021, equations 2 to 9).

Over a shared bottom x each task i of `chain` has a tower p_i = layers_i(x) [B, K]. z_1 = p_1, and
    q_(i-1) = gelu(G_i z_(i-1)),
    z_i = sum_u w_u V_i u,  w_u = softmax_u(<Q_i u, K_i u> / sqrt(K)),  u in {p_i, q_(i-1)};
y_i = head_i(z_i).  The calibrator is a penalty of the *later* task, in training:
    calibrator_weight * mean over the batch's rows of max(sigmoid(y_i) - sigmoid(y_(i-1)), 0),
0.6 in the paper. Its gradient reaches both heads, as in the paper.

The paper has ReLU towers of their own over the shared embedding; here they stand on the shared
bottom (`trunk_widths=()` leaves it out) and have one layer of the bottom's width K. Tasks outside
the chain have plain heads over the bottom.
Parameters: layer_<n>, norm_<n> shared; chain_<name>/tower, transfer, value, query, key of all but
the last task, whose are called task_<name>: no other loss reaches them.
"""

from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Layers, Trunk, layers, read


class Transfer(nn.Module):
    """A task's tower, and what it takes from the task before it: z [B, K] and weights [B, 2]."""

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(self, x: Array, before: Array | None) -> tuple[Array, Array | None]:
        """x [B, K] of the bottom, `before` [B, K] of the task before (None: it is the first)."""
        k, dtype = x.shape[-1], jnp.dtype(self.config.dtype)
        own = Layers(self.config, self.deterministic, (k,), name="tower")(x)
        if before is None:
            return own, None
        told = nn.gelu(nn.Dense(k, dtype=dtype, name="transfer")(before))
        u = jnp.stack([own, told], axis=1)  # [B, 2, K]
        value, query, key = (
            nn.Dense(k, dtype=dtype, name=name)(u) for name in ("value", "query", "key")
        )
        scores = jnp.sum((query * key).astype(jnp.float32), -1) / jnp.sqrt(k)
        weights = jax.nn.softmax(scores, axis=-1)
        return jnp.einsum("bu,buk->bk", weights.astype(dtype), value), weights


class AITM(nn.Module):
    """z [B, Dz] -> heads over [B, K]; gates [B, 2] are the weights of (own, transferred)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = layers(c, read(c, z, deterministic), deterministic)
        outputs = {task: head(x) for task, head in heads.items() if task not in c.chain}
        gates: dict[str, Array] = {}
        state: Array | None = None
        for task in c.chain:
            kind = "task" if task == c.chain[-1] else "chain"
            state, weights = Transfer(c, deterministic, name=f"{kind}_{task}")(x, state)
            outputs[task] = heads[task](state)
            if weights is not None:
                gates[task] = weights
        penalties: dict[str, Array] = {}
        if not deterministic and c.calibrator_weight:
            for before, task in pairwise(c.chain):
                rise = jax.nn.sigmoid(outputs[task]) - jax.nn.sigmoid(outputs[before])
                penalties[task] = c.calibrator_weight * jnp.mean(jnp.maximum(rise, 0.0))
        return Trunk(outputs, penalties, gates)
