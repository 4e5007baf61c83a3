"""Freeze policies of the encoder: everything trains, the top n layers train, or nothing does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Params
from mtl_jax.nn.encoder import EncoderConfig


@dataclass(frozen=True)
class Cut:
    """Where an encoder is split.

    policy: "all" trains everything, "top_n" the layers from `layer` on and the pooler, "none"
      nothing.
    layer: the first layer that trains. The frozen part is the embeddings and the layers below;
      its output is `Encoder(..., stop_layer=layer)` and what trains goes on from there with
      `start_layer=layer, hidden=...`. None with "all": there is no frozen part. With "none" it
      is the number of layers.
    """

    policy: Literal["all", "top_n", "none"]
    layer: int | None


def find_cut(config: EncoderConfig, train_layers: int | str) -> Cut:
    """The cut for "all" (or -1), 0 (nothing trains), or the number of top layers that train.

    `train_layers=config.layers` trains every layer and keeps the embeddings frozen.

    Raises:
      UserError: another word, or more layers than there are.
    """
    if train_layers in ("all", -1):
        return Cut("all", None)
    if not isinstance(train_layers, int) or isinstance(train_layers, bool):
        raise UserError(f'train_layers must be "all" or a number of layers, not {train_layers!r}')
    if not 0 <= train_layers <= config.layers:
        raise UserError(
            f"train_layers={train_layers}: the encoder has {config.layers} layers; give 0 to "
            f'{config.layers}, or "all" to train the embeddings too'
        )
    if train_layers == 0:
        return Cut("none", config.layers)
    return Cut("top_n", config.layers - train_layers)


def split_params(
    config: EncoderConfig, params: Params, train_layers: int | str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(frozen, trainable): two trees that share nothing and together are `params`.

    `merge_params` puts them together again.
    """
    cut = find_cut(config, train_layers)
    frozen = {name for name in params if not _trains(name, cut)}
    return (
        {name: tree for name, tree in params.items() if name in frozen},
        {name: tree for name, tree in params.items() if name not in frozen},
    )


def merge_params(frozen: Mapping[str, Any], trainable: Mapping[str, Any]) -> dict[str, Any]:
    """The whole tree of two that `split_params` gave; UserError when a name is in both."""
    twice = sorted(set(frozen) & set(trainable))
    if twice:
        raise UserError(f"{', '.join(twice)} is both frozen and trainable")
    return {**frozen, **trainable}


def _trains(name: str, cut: Cut) -> bool:
    if cut.layer is None:
        return True
    if name == "pooler":  # it stands above the top layer
        return cut.policy == "top_n"
    number = name.removeprefix("layer_")
    return number != name and int(number) >= cut.layer
