"""DSelect-k (Hazimeh et al., NeurIPS 2021, sections 2 and 3), gates that depend on the row.

A selector picks one of E experts by m = ceil(log2 E) smooth bits: with t [B, m] = G z,
    S(t) = 0 for t <= -w/2, 1 for t >= w/2, else -2 t^3 / w^3 + 3 t / (2 w) + 1/2   (equation 3),
    r_e = prod_j S(t_j) if bit j of e is set, else 1 - S(t_j)                       (equation 4).
A task's gate mixes k = `experts_k` selectors: q = sum_i softmax(A z)_i r^(i)  (equation 5), which
is exactly k-sparse once the bits are 0 or 1; x_t = sum_e q_e f_e(z).

The penalty of the task whose gate it is, in training, mean over rows, sum over the k selectors:
    entropy_weight * (-sum_e r_e log(r_e + 1e-6))   pushes every selector to one expert;
    1 / max(sum_e r_e, 1e-3) - 1   only where E is no power of two: mass on codes that name no
    expert (the paper's xi / sum_e r_e with xi = 1, less its least value).
The bits leave S's flat ends never, as its gradient is 0 there: that is the paper's sparsity.

Parameters: experts/layer_<n>/kernel [E, D, F], ... shared; task_<name>/bits/kernel [Dz, k m],
task_<name>/bits/bias, task_<name>/choice/kernel [Dz, k].
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Trunk, mix, read, stacked


def smooth_step(t: Array, width: float) -> Array:
    """Equation 3: 0 below -width/2, 1 above width/2, a cubic between; once differentiable."""
    t = jnp.clip(t / width, -0.5, 0.5)
    return -2.0 * t**3 + 1.5 * t + 0.5


class Selector(nn.Module):
    """[B, D] -> (gate [B, E], selectors [B, k, E]), float32."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        c = self.config
        k, m = c.experts_k, max(math.ceil(math.log2(c.experts)), 1)
        x = x.astype(jnp.float32)
        near_half = nn.initializers.uniform(c.step_width / 50.0)  # the bits start at a half

        def start(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
            return near_half(key, shape, dtype) - c.step_width / 100.0

        bits = nn.Dense(k * m, kernel_init=start, bias_init=start, name="bits")(x)
        on = smooth_step(bits.reshape(-1, k, 1, m), c.step_width)
        code = (np.arange(c.experts)[:, None] >> np.arange(m)) & 1  # [E, m]
        r = jnp.prod(jnp.where(code > 0, on, 1.0 - on), axis=-1)
        zeros = nn.initializers.zeros
        choice = nn.Dense(k, use_bias=False, kernel_init=zeros, name="choice")(x)
        return jnp.einsum("bk,bke->be", jax.nn.softmax(choice, axis=-1), r), r


def selection_penalty(config: ModelConfig, r: Array) -> Array:
    """Scalar penalty of selectors r [B, k, E]; see the top of this file."""
    entropy = -jnp.sum(r * jnp.log(r + 1e-6), axis=(1, 2))
    found = config.entropy_weight * jnp.mean(entropy)
    if config.experts & (config.experts - 1):
        held = jnp.maximum(jnp.sum(r, axis=-1), 1e-3)
        found += jnp.mean(jnp.sum(1.0 / held - 1.0, axis=-1))
    return found


class DSelectK(nn.Module):
    """z [B, Dz] -> for each task a sparse mixture [B, widths[-1]] of the shared experts."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = read(c, z, deterministic)
        experts = stacked(c, deterministic, c.experts, "experts")(x)
        found = {task: Selector(c, name=f"task_{task}")(x) for task in heads}
        gates = {task: gate for task, (gate, _) in found.items()}
        penalties: dict[str, Array] = {}
        if not deterministic:
            penalties = {task: selection_penalty(c, r) for task, (_, r) in found.items()}
        outputs = {task: head(mix(gates[task], experts)) for task, head in heads.items()}
        return Trunk(outputs, penalties, gates)
