"""Classifier chain (Read et al., ECML 2009) over a shared bottom.

x = layers(z); y_i = head_i([x, y_1, .., y_(i-1)]): a task of `chain` also reads the log-odds that
the heads before it predict. The paper feeds true labels in training and predictions later; here
both are predictions, so that nothing differs between training and use. As there, a link is not
trained by those after it: the log-odds are read behind a stop-gradient.
Tasks outside the chain have plain heads over x.  Parameters: layer_<n>, norm_<n>, all shared.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Trunk, layers, read


class ClassifierChain(nn.Module):
    """z [B, Dz] -> heads over [B, F + i] for task i (0, 1, ..) of the chain, [B, F] for others."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = layers(c, read(c, z, deterministic), deterministic)
        outputs = {task: head(x) for task, head in heads.items() if task not in c.chain}
        features = x
        for task in c.chain:
            outputs[task] = heads[task](features)
            told = jax.lax.stop_gradient(outputs[task])[:, None].astype(x.dtype)
            features = jnp.concatenate([features, told], axis=-1)
        return Trunk(outputs, {}, {})
