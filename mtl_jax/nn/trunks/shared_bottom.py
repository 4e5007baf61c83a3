"""Shared-bottom trunk (Caruana, 1997): one stack of layers that every task reads.

x = layers(z) [B, F]; y_t = head_t(x).  Parameters: layer_<n>, norm_<n>, all shared.
"""

import flax.linen as nn

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Trunk, layers, read


class SharedBottom(nn.Module):
    """z [B, Dz] -> the same [B, widths[-1]] for every task's head."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        x = layers(self.config, read(self.config, z, deterministic), deterministic)
        return Trunk({task: head(x) for task, head in heads.items()}, {}, {})
