"""Customised gate control (Tang et al., RecSys 2020, section 4.1, equations 1 to 3).

x_t = sum_e g_t,e(z) f_e(z) over the experts of task t and the shared ones, and no other task's;
g_t = softmax(W_t z / temperature); y_t = head_t(x_t).  It is one level of PLE.

Parameters: level_<l>/shared/experts/layer_<n>/kernel [Es, D, F], ...; level_<l>/task_<name>/experts
[Et, ..] and gate/logits/kernel [D, Et + Es].  Below the last level (PLE) every loss reaches a
task's experts through the shared group, and they are called group_<name>/experts; the shared
group's gate is level_<l>/shared_gate/logits/kernel [D, T Et + Es].
"""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class Group(nn.Module):
    """The experts of one group, under <name>/experts: [B, D] -> [n, B, F]."""

    config: ModelConfig
    deterministic: bool
    n: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return stacked(self.config, self.deterministic, self.n, "experts")(x)


class Own(nn.Module):
    """A task's gate and, where none are given, its experts.

    __call__: (x [B, D], its experts [Et, B, F] or None) -> (experts, gate [B, Et + Es]).
    """

    config: ModelConfig
    deterministic: bool

    @nn.compact
    def __call__(self, x: Array, experts: Array | None) -> tuple[Array, Array]:
        c = self.config
        if experts is None:
            experts = stacked(c, self.deterministic, c.task_experts, "experts")(x)
        return experts, Gate(c, c.task_experts + c.shared_experts, name="gate")(x)


class Level(nn.Module):
    """One level of extraction; the last one makes no shared features.

    __call__: (features of each task [B, D], shared [B, D]) ->
    ({task: [B, F]}, shared [B, F] or None, {task: gate [B, Et + Es]}).
    """

    config: ModelConfig
    deterministic: bool
    last: bool

    @nn.compact
    def __call__(
        self, xs: dict[str, Array], shared: Array
    ) -> tuple[dict[str, Array], Array | None, dict[str, Array]]:
        c, d = self.config, self.deterministic
        ours = Group(c, d, c.shared_experts, name="shared")(shared)
        experts, gates, out = {}, {}, {}
        for task, x in xs.items():
            given = None if self.last else Group(c, d, c.task_experts, name=f"group_{task}")(x)
            experts[task], gates[task] = Own(c, d, name=f"task_{task}")(x, given)
            out[task] = mix(gates[task], jnp.concatenate([experts[task], ours]))
        if self.last:
            return out, None, gates
        every = jnp.concatenate([*experts.values(), ours])
        return out, mix(Gate(c, every.shape[0], name="shared_gate")(shared), every), gates


def extract(
    config: ModelConfig, levels: int, z: Array, heads: HeadFns, deterministic: bool
) -> Trunk:
    """`levels` levels over z [B, Dz], and the heads; called in a compact module."""
    shared: Array | None = read(config, z, deterministic)
    assert shared is not None
    xs = dict.fromkeys(heads, shared)
    gates: dict[str, Array] = {}
    for n in range(levels):
        assert shared is not None
        level = Level(config, deterministic, n == levels - 1, name=f"level_{n}")
        xs, shared, gates = level(xs, shared)
    return Trunk({task: head(xs[task]) for task, head in heads.items()}, {}, gates)


class CGC(nn.Module):
    """z [B, Dz] -> for each task a mixture [B, widths[-1]] of its own and the shared experts."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        return extract(self.config, 1, z, heads, deterministic)
