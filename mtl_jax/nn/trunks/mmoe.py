"""Multi-gate mixture of experts (Ma et al., KDD 2018, equations 5 to 7).

x_t = sum_e g_t,e(z) f_e(z), g_t = softmax(W_t z / temperature); y_t = head_t(x_t).
The paper has temperature 1 and, like here, a head with a hidden layer as the task's tower.
Parameters: experts/layer_<n>/kernel [E, D, F], ... shared; task_<name>/gate/logits/kernel [Dz, E].
"""

import flax.linen as nn

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class OwnGate(nn.Module):
    """A task's gate, under task_<name>/gate: [B, D] -> [B, n]."""

    config: ModelConfig
    n: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        gate: Array = Gate(self.config, self.n, name="gate")(x)
        return gate


class MMoE(nn.Module):
    """z [B, Dz] -> a mixture [B, widths[-1]] of the shared `experts` for each task."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = read(c, z, deterministic)
        experts = stacked(c, deterministic, c.experts, "experts")(x)
        gates = {task: OwnGate(c, c.experts, name=f"task_{task}")(x) for task in heads}
        outputs = {task: head(mix(gates[task], experts)) for task, head in heads.items()}
        return Trunk(outputs, {}, gates)
