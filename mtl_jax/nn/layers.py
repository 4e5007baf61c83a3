"""The parts of a post-LN transformer encoder: exact activations, lookups, one layer.

Shapes: B rows, L tokens, H width, N heads.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from mtl_jax.core.types import Array
from mtl_jax.nn.attention import Segments, attention
from mtl_jax.nn.dropout import Dropout
from mtl_jax.nn.primitives import dense_product, gelu

# Names what costs most to compute anew for its size; see `mtl_jax.nn.encoder.SLICED`.
KEPT = "kept"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Names as in HF configs. "gelu" is x * Phi(x) with erf, never the tanh approximation.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}


def lookup(table: Array, ids: Array) -> Array:
    """Rows of table [V, H] for ids [...] -> [..., H]; an id outside 0..V-1 gives NaN.

    JAX would clamp it (or wrap a negative one) in silence; NaN is seen by the training step.
    """
    return (
        jnp.asarray(table).at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    )


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """LayerNorm over the last axis, statistics in float32 by the two-pass variance."""
    return nn.LayerNorm(
        epsilon=epsilon, dtype=dtype, param_dtype=jnp.float32, use_fast_variance=False, name=name
    )


class EncoderLayer(nn.Module):
    """One post-LN layer: norm(x + attention(x)), then norm(y + ffn(y)).

    Dropout acts on the attention probabilities, after the attention's output dense and after the
    ffn's output dense.
    """

    heads: int
    ffn: int
    activation: str
    norm_eps: float
    hidden_dropout: float
    attention_dropout: float
    init_range: float
    dtype: jnp.dtype
    kernel: str  # of attention: `mtl_jax.nn.attention.KERNELS`

    @nn.compact
    def __call__(self, x: Array, segments: Segments, deterministic: bool) -> Array:
        """x [B, L, H], who attends to whom -> [B, L, H] in `dtype`."""
        B, L, H = x.shape
        x = jnp.asarray(x, self.dtype)
        dense = partial(
            nn.Dense,
            dtype=self.dtype,
            param_dtype=jnp.float32,
            kernel_init=nn.initializers.normal(self.init_range),
            dot_general=dense_product,
        )

        def heads_first(name: str) -> Array:
            y = dense(H, name=name)(x).reshape(B, L, self.heads, H // self.heads)
            return y.transpose(0, 2, 1, 3)

        rate = 0.0 if deterministic else self.attention_dropout
        drop_key = self.make_rng("dropout") if rate else None
        qkv = heads_first("query"), heads_first("key"), heads_first("value")
        y = attention(self.kernel, *qkv, segments, rate, drop_key)
        y = checkpoint_name(y.transpose(0, 2, 1, 3).reshape(B, L, H), KEPT)
        y = checkpoint_name(dense(H, name="attention_out")(y), KEPT)
        y = Dropout(self.hidden_dropout)(y, deterministic)
        x = layer_norm(self.norm_eps, self.dtype, "attention_norm")(x + y)

        y = ACTIVATIONS[self.activation](dense(self.ffn, name="ffn_in")(x))
        y = checkpoint_name(dense(H, name="ffn_out")(y), KEPT)
        y = Dropout(self.hidden_dropout)(y, deterministic)
        return layer_norm(self.norm_eps, self.dtype, "ffn_norm")(x + y)
