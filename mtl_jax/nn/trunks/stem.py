"""Shared and task-specific embeddings (STEM-Net, Su et al., AAAI 2024), acting on z.

The paper has one embedding table for each task and a shared one. The tables here lie below z, which
all tasks share; a shared and a per-task linear projection of z play the tables' part:
    e_s = P_s z, e_t = P_t z  [B, widths[0]].
Experts f over e_s (shared) and over each e_u (task u's). All forward, task-specific backward:
    x_t = sum over *all* experts of g_t,e f_e, with a stop-gradient on those of other tasks u != t,
    g_t = softmax(W_t (e_t + e_s) / temperature);  y_t = head_t(x_t).
The gate reads e_t + e_s, as the authors' code does. Everything called task_<name> so learns from
its own task's loss only; the gradient to z is not stopped.
Gates are [B, T Et + Es], the tasks' experts in the tasks' order, the shared ones last.
Parameters: shared/embed/kernel [Dz, widths[0]], shared/experts/... [Es, ..]; task_<name>/embed,
experts [Et, ..], gate/logits.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class Side(nn.Module):
    """A projection of z and n experts over it; for a task (read > 0) the gate as well.

    __call__: (z [B, Dz], e_s [B, D] or None) -> (e [B, D], experts [n, B, F], gate or None).
    """

    config: ModelConfig
    deterministic: bool
    n: int
    read: int = 0

    @nn.compact
    def __call__(self, z: Array, shared: Array | None) -> tuple[Array, Array, Array | None]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        e = nn.Dense(c.trunk_widths[0], use_bias=False, dtype=dtype, name="embed")(z)
        experts = stacked(c, self.deterministic, self.n, "experts")(e)
        if shared is None:
            return e, experts, None
        return e, experts, Gate(c, self.read, name="gate")(e + shared)


class STEM(nn.Module):
    """z [B, Dz] -> for each task a mixture [B, widths[-1]] of all experts, others' stopped."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c, d = self.config, deterministic
        x = read(c, z, d)
        n = len(heads) * c.task_experts + c.shared_experts
        shared, common, _ = Side(c, d, c.shared_experts, name="shared")(x, None)
        experts: dict[str, Array] = {}
        gates: dict[str, Array] = {}
        for task in heads:
            side = Side(c, d, c.task_experts, n, name=f"task_{task}")
            _, experts[task], gate = side(x, shared)
            assert gate is not None
            gates[task] = gate
        outputs = {}
        for task, head in heads.items():
            seen = [f if u == task else jax.lax.stop_gradient(f) for u, f in experts.items()]
            outputs[task] = head(mix(gates[task], jnp.concatenate([*seen, common])))
        return Trunk(outputs, {}, gates)
