"""Single-task trunk: the tasks share z and nothing above it; the baseline of every comparison.

y_t = head_t(layers_t(z)).  Parameters: task_<name>/layer_<n>, norm_<n>; none is shared.
"""

import flax.linen as nn

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Layers, Trunk, read


class SingleTask(nn.Module):
    """z [B, Dz] -> [B, widths[-1]] by a stack of layers of each task's own."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        x = read(self.config, z, deterministic)
        outputs = {
            task: head(Layers(self.config, deterministic, name=f"task_{task}")(x))
            for task, head in heads.items()
        }
        return Trunk(outputs, {}, {})
