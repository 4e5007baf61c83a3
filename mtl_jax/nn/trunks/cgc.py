"""Customised gate control (Tang et al., RecSys 2020, section 4.1, equations 1 to 3).

x_t = sum_e g_t,e(z) f_e(z) over the experts of task t and the shared ones, and no other task's;
g_t = softmax(W_t z / temperature); y_t = head_t(x_t).  It is one level of PLE.

Parameters of the last level: level_<l>/task_<name>/experts/layer_<n>/kernel [Et, D, F],
level_<l>/task_<name>/gate/logits/kernel [D, Et + Es], level_<l>/shared/experts/... [Es, D, F].
Below it (PLE) every loss reaches everything, and task_<name> is called group_<name>; the shared
group has a gate too, level_<l>/shared/gate/logits/kernel [D, T Et + Es].
"""

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class Group(nn.Module):
    """n experts with (read = 0: without) the gate over `read` of them and others'."""

    config: ModelConfig
    deterministic: bool
    n: int
    read: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        """[B, D] -> ([n, B, F], gate [B, read])."""
        experts = stacked(self.config, self.deterministic, self.n, "experts")(x)
        return experts, Gate(self.config, self.read, name="gate")(x) if self.read else None


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
        own, common = c.task_experts, c.shared_experts
        every = 0 if self.last else len(xs) * own + common
        ours, over_all = Group(c, d, common, every, name="shared")(shared)
        kind = "task" if self.last else "group"
        experts, out = {}, {}
        gates: dict[str, Array] = {}
        for task, x in xs.items():
            group = Group(c, d, own, own + common, name=f"{kind}_{task}")
            experts[task], gate = group(x)
            assert gate is not None
            gates[task] = gate
            out[task] = mix(gates[task], jnp.concatenate([experts[task], ours]))
        if over_all is None:
            return out, None, gates
        return out, mix(over_all, jnp.concatenate([*experts.values(), ours])), gates


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
