"""One-gate mixture of experts: what MMoE is compared with (Ma et al., KDD 2018, section 3.2).

x = sum_e g_e(z) f_e(z), g = softmax(W z / temperature); y_t = head_t(x): all tasks read the same.
Parameters, all shared: experts/layer_<n>/kernel [E, D, F], ...; gate/logits/kernel [Dz, E].
"""

import flax.linen as nn

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class OMoE(nn.Module):
    """z [B, Dz] -> one mixture [B, widths[-1]] of `experts` experts for all tasks."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = read(c, z, deterministic)
        gate = Gate(c, c.experts, name="gate")(x)
        mixed = mix(gate, stacked(c, deterministic, c.experts, "experts")(x))
        outputs = {task: head(mixed) for task, head in heads.items()}
        return Trunk(outputs, {}, dict.fromkeys(heads, gate))
