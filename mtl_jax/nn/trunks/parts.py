"""What trunks are built of: a stack of layers, E such stacks at once, a softmax gate, a mixture.

Names: a path component `task_<name>` inside a trunk holds parameters that no loss but that task's
reaches; all other parameters of a trunk are shared. The penalties are of the same mind: a task's
penalty belongs to its loss.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.dropout import Dropout

HeadFns = Mapping[str, Callable[[Array], Any]]


class Trunk(NamedTuple):
    """What a trunk returns.

    outputs:   {task: its head's output}, [B] or [B, C].
    penalties: {task: scalar []} to be added to the mean loss of the task; empty when deterministic.
    gates:     {task: [B, E]} weights of what the task's features are mixed of, float32.
    """

    outputs: dict[str, Any]
    penalties: dict[str, Array]
    gates: dict[str, Array]


def layers(
    config: ModelConfig, x: Array, deterministic: bool, widths: tuple[int, ...] | None = None
) -> Array:
    """[..., D] -> [..., widths[-1]]: Dense, gelu, LayerNorm (`trunk_norm`), dropout, each layer.

    Called in a compact module, which then owns layer_<n> and norm_<n>. widths: `trunk_widths`.
    """
    dtype = jnp.dtype(config.dtype)
    rate = config.dropout if config.trunk_dropout is None else config.trunk_dropout
    for n, width in enumerate(config.trunk_widths if widths is None else widths):
        x = nn.gelu(nn.Dense(width, dtype=dtype, name=f"layer_{n}")(x))
        if config.trunk_norm:
            x = nn.LayerNorm(dtype=dtype, name=f"norm_{n}")(x)
        x = Dropout(rate)(x, deterministic)
    return x


def read(config: ModelConfig, z: Array, deterministic: bool) -> Array:
    """z in the compute dtype, after `input_dropout`; called in a compact module."""
    z = z.astype(jnp.dtype(config.dtype))
    return Dropout(config.input_dropout)(z, deterministic)


class Layers(nn.Module):
    """`layers` as a module: [..., D] -> [..., widths[-1]]."""

    config: ModelConfig
    deterministic: bool
    widths: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return layers(self.config, x, self.deterministic, self.widths)


def stacked(
    config: ModelConfig,
    deterministic: bool,
    n: int,
    name: str,
    widths: tuple[int, ...] | None = None,
    each: bool = False,
) -> Callable[[Array], Array]:
    """n `Layers` in one: [B, D], or each its own [n, B, D], -> [n, B, F].

    Their parameters are stacked: <name>/layer_0/kernel [n, D, F].
    """
    many: Any = nn.vmap(
        Layers,
        in_axes=0 if each else None,
        out_axes=0,
        axis_size=n,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
    )
    made: Callable[[Array], Array] = many(config, deterministic, widths, name=name)
    return made


class Gate(nn.Module):
    """softmax(W x / temperature): [B, D] -> [B, n] in float32; W starts at 0, an even mixture."""

    config: ModelConfig
    n: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        zeros = nn.initializers.zeros
        logits = nn.Dense(self.n, use_bias=False, kernel_init=zeros, name="logits")(
            x.astype(jnp.float32)
        )
        return jax.nn.softmax(logits / self.config.gate_temperature, axis=-1)


def mix(gate: Array, experts: Array) -> Array:
    """sum_e gate[b, e] experts[e, b, :]: ([B, E], [E, B, F]) -> [B, F] in the experts' dtype."""
    return jnp.einsum("be,ebf->bf", gate.astype(experts.dtype), experts)
