"""Progressive layered extraction (Tang et al., RecSys 2020, section 4.2, equations 4 to 6).

Level l: for task t  x_t' = sum_e g_t,e(x_t) f_e over its own experts f_e(x_t) and the shared
f_e(s); the shared group has a gate of its own over *all* experts, s' = sum_e g_s,e(s) f_e.
x_t = s = z at first; the last level makes no s'.  y_t = head_t(x_t).  Gates are softmax(W . /
temperature).

Each level's experts are stacks of `trunk_widths`.  One level is CGC; parameters: see `cgc.py`.
"""

import flax.linen as nn

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.cgc import extract
from mtl_jax.nn.trunks.parts import HeadFns, Trunk


class PLE(nn.Module):
    """z [B, Dz] -> [B, widths[-1]] for each task, by `levels` levels."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        return extract(self.config, self.config.levels, z, heads, deterministic)
