"""Adaptive task-to-task fusion (Li et al., KDD 2023, equations 1 to 6).

Each of `levels` levels has groups of experts: `task_experts` for each task over its own input x_t,
and `shared_experts` over the shared input s (0 of them: AdaTT-sp). With all experts' outputs f_e,
    x_t' = sum over all e of g_t,e f_e  +  sum over e of t's own group of v_t,e f_e,
    g_t = softmax(W_t x_t / temperature),
v_t a learnt vector that does not depend on the row (one native expert: v_t = 1, as in the paper).
The shared group is fused in the same way on all levels but the last, where no task reads it.
y_t = head_t(x_t).

On the last level every loss still reaches all experts: only gates and v are a task's own.
Parameters: level_<l>/experts/... [T Et + Es, ..] shared, tasks in their order and the shared last;
level_<l>/{task,group}_<name>/gate/logits, native_scale [Et] ("group" below the last level, where
every loss reaches them); level_<l>/shared/gate, native_scale.
Gates are the softmax weights [B, T Et + Es] of the last level.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import Gate, HeadFns, Trunk, mix, read, stacked


class Fuse(nn.Module):
    """(x [B, D], experts [E, B, F]) -> (fused [B, F], gate [B, E]); natives: its own experts."""

    config: ModelConfig
    natives: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array, experts: Array) -> tuple[Array, Array]:
        first, n = self.natives
        gate = Gate(self.config, experts.shape[0], name="gate")(x)
        own = experts[first : first + n]
        if n > 1:
            # as in the authors' code, uniform within sqrt(1 / n)
            start = nn.initializers.uniform(2.0 / np.sqrt(n))
            v = self.param("native_scale", lambda key: start(key, (n,)) - 1.0 / np.sqrt(n))
            own = v.astype(experts.dtype)[:, None, None] * own
        return mix(gate, experts) + jnp.sum(own, axis=0), gate


class Level(nn.Module):
    """One level: inputs [G, B, D] of the groups (tasks, then shared) -> theirs [G', B, F].

    On the first level all inputs are one [B, D]. The last level leaves the shared group out.
    """

    config: ModelConfig
    tasks: tuple[str, ...]
    deterministic: bool
    last: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, dict[str, Array]]:
        c, tasks = self.config, self.tasks
        own, common = c.task_experts, c.shared_experts
        counts = [own] * len(tasks) + [common] * (common > 0)
        each = x.ndim == 3
        inputs = (
            jnp.repeat(x, np.array(counts), axis=0, total_repeat_length=sum(counts)) if each else x
        )
        experts = stacked(c, self.deterministic, sum(counts), "experts", each=each)(inputs)
        kind = "task" if self.last else "group"
        names = [f"{kind}_{task}" for task in tasks]
        if common and not self.last:
            names.append("shared")
        fused, gates = [], {}
        for g, name in enumerate(names):
            fuse = Fuse(c, (sum(counts[:g]), counts[g]), name=name)
            out, gate = fuse(x[g] if each else x, experts)
            fused.append(out)
            if name != "shared":
                gates[tasks[g]] = gate
        return jnp.stack(fused), gates


class AdaTT(nn.Module):
    """z [B, Dz] -> [B, widths[-1]] for each task, by `levels` levels of fusion."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = read(c, z, deterministic)
        gates: dict[str, Array] = {}
        for n in range(c.levels):
            level = Level(c, tuple(heads), deterministic, n == c.levels - 1, name=f"level_{n}")
            x, gates = level(x)
        return Trunk({task: head(x[t]) for t, (task, head) in enumerate(heads.items())}, {}, gates)
