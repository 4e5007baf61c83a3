"""Multi-task attention network (Liu et al., CVPR 2019, equations 1 and 2), dense layers for
convolutions.

Block j of the shared network has two layers, u_j = layer(p_(j-1)) and p_j = layer(u_j), p_0 = z.
Task t masks p_j softly: with h_t,j = sigmoid(H_t,j gelu(G_t,j [u_j, f_(j-1)])),
    a_t,j = h_t,j * p_j,    f_j = gelu(F_j a_t,j)  (absent for j = 1; F_j is shared, as f^(j) is in
the paper). y_t = head_t(a_t,last). A mask [B, F] is no mixture: there are no gates to read.
Parameters: block_<j>_in, block_<j>_out (`Layers`: layer_0, norm_0), carry_<j> shared;
task_<name>/reduce_<j>, mask_<j>.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Layers, Trunk, read


class Attend(nn.Module):
    """A task's masks over all blocks: ([u_j], [p_j], [F_j]) -> [B, widths[-1]]."""

    config: ModelConfig

    @nn.compact
    def __call__(self, us: list[Array], ps: list[Array], carries: list[nn.Dense]) -> Array:
        dtype = jnp.dtype(self.config.dtype)
        attended = ps[0]
        for j, (u, p) in enumerate(zip(us, ps, strict=True)):
            if j:
                u = jnp.concatenate([u, nn.gelu(carries[j - 1](attended))], axis=-1)
            x = nn.gelu(nn.Dense(p.shape[-1], dtype=dtype, name=f"reduce_{j}")(u))
            mask = jax.nn.sigmoid(nn.Dense(p.shape[-1], dtype=dtype, name=f"mask_{j}")(x))
            attended = mask * p
        return attended


class MTAN(nn.Module):
    """z [B, Dz] -> [B, widths[-1]] for each task; one block for each of `trunk_widths`."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        p = read(c, z, deterministic)
        us, ps, carries = [], [], []
        for j, width in enumerate(c.trunk_widths):
            u = Layers(c, deterministic, (width,), name=f"block_{j}_in")(p)
            p = Layers(c, deterministic, (width,), name=f"block_{j}_out")(u)
            us.append(u)
            ps.append(p)
            if j:
                carries.append(nn.Dense(width, dtype=dtype, name=f"carry_{j}"))
        outputs = {
            task: head(Attend(c, name=f"task_{task}")(us, ps, carries))
            for task, head in heads.items()
        }
        return Trunk(outputs, {}, {})
