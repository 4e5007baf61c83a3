"""Cross-stitch network (Misra et al., CVPR 2016, equation 1).

T towers, one for each task; after each layer their outputs are mixed:
    x_t' = sum_u alpha[t, u] layer_u(x_u),
alpha [T, T] of each layer: 0.9 on the diagonal at first and 0.1 / (T - 1) beside it (section 4.1's
best start). As in equation 1 there is one alpha for all channels. y_t = head_t(x_t).
Every loss reaches every tower. Parameters, all shared: towers_<n>/layer_0/kernel [T, D, F], ..;
stitch_<n>/scale [T, T] ("scale": decay leaves it alone).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.trunks.parts import HeadFns, Trunk, read, stacked


class Stitch(nn.Module):
    """[T, B, F] -> [T, B, F], mixed by alpha."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        n = x.shape[0]
        beside = 0.1 / (n - 1) if n > 1 else 0.0
        start = np.where(np.eye(n) > 0, 1.0 - beside * (n - 1), beside)
        alpha = self.param("scale", lambda key: jnp.asarray(start, jnp.float32))
        return jnp.einsum("tu,ubf->tbf", alpha.astype(x.dtype), x)


class CrossStitch(nn.Module):
    """z [B, Dz] -> [B, widths[-1]] for each task, by towers stitched after each layer."""

    config: ModelConfig

    @nn.compact
    def __call__(self, z: Array, heads: HeadFns, deterministic: bool) -> Trunk:
        c = self.config
        x = read(c, z, deterministic)
        for n, width in enumerate(c.trunk_widths):
            towers = stacked(c, deterministic, len(heads), f"towers_{n}", (width,), each=n > 0)
            x = Stitch(name=f"stitch_{n}")(towers(x))
        return Trunk({task: head(x[t]) for t, (task, head) in enumerate(heads.items())}, {}, {})
