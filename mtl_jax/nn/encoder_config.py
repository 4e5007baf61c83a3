"""What a text encoder is (`EncoderConfig`) and which token ids it can read (`check_ids`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.nn.attention import KERNELS
from mtl_jax.nn.layers import ACTIVATIONS, DTYPES

REMAT = ("none", "layers", "activations")

# Families whose position table starts behind the padding id: position p of a text lies in row
# p + pad_id + 1, and tokens equal to pad_id read row pad_id.
_OFFSET_FAMILIES = ("roberta", "xlm-roberta", "camembert")
MODEL_TYPES = ("bert", *_OFFSET_FAMILIES)


@dataclass(frozen=True)
class EncoderConfig:
    """Shape and constants of a post-LN encoder of the BERT family.

    model_type:    "bert", "roberta", "xlm-roberta" or "camembert"; decides the positions.
    vocab_size, width (H), layers, heads, ffn: sizes; heads divides width.
    max_positions: rows of the position table (RoBERTa's first pad_id + 1 rows hold no position).
    type_vocab:    rows of the token type table.
    norm_eps:      epsilon of every LayerNorm; BERT's is 1e-12.
    activation:    "gelu" is the exact erf form, "gelu_new" and "gelu_pytorch_tanh" the tanh form.
    hidden_dropout, attention_dropout: rates, used only with `deterministic=False`.
    pad_id:        id of the padding token.
    has_pooler:    the parameters hold a "pooler" (used by `mtl_jax.nn.pooling`, not by `Encoder`).
    dtype:         "float32" or "bfloat16", of the matrix products. Parameters, LayerNorm and
                   softmax stay in float32.
    init_range:    standard deviation of randomly drawn kernels and embeddings.
    remat:         what the backward pass computes anew instead of keeping it: "none", "layers" (all
                   that is inside a layer), "activations" (all but the results of products with
                   parameters).
    attention:     "auto", "mask" or "flash": `mtl_jax.nn.attention.KERNELS`.
    Raises UserError for a value outside these.
    """

    model_type: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    ffn: int
    max_positions: int
    type_vocab: int = 2
    norm_eps: float = 1e-12
    activation: str = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_id: int = 0
    has_pooler: bool = False
    dtype: str = "float32"
    init_range: float = 0.02
    remat: str = "none"
    attention: str = "auto"

    def __post_init__(self) -> None:
        _one_of("model_type", self.model_type, MODEL_TYPES)
        _one_of("activation", self.activation, tuple(ACTIVATIONS))
        _one_of("dtype", self.dtype, tuple(DTYPES))
        _one_of("remat", self.remat, REMAT)
        _one_of("attention", self.attention, KERNELS)
        for name in ("vocab_size", "width", "layers", "heads", "ffn", "max_positions"):
            if getattr(self, name) < 1:
                raise UserError(f"encoder {name}={getattr(self, name)}: must be at least 1")
        if self.width % self.heads:
            raise UserError(f"encoder width {self.width} is not a multiple of heads {self.heads}")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"encoder {name}={getattr(self, name)}: must be in [0, 1)")
        if self.type_vocab < 1 or self.usable_length < 1 or self.norm_eps <= 0:
            raise UserError(
                f"encoder type_vocab={self.type_vocab}, max_positions={self.max_positions}, "
                f"norm_eps={self.norm_eps}: no token could be read"
            )

    @property
    def position_offset(self) -> int:
        """Row of the position table that holds position 0 of a text."""
        return self.pad_id + 1 if self.model_type in _OFFSET_FAMILIES else 0

    @property
    def positions_from_ids(self) -> bool:
        """True where tokens equal to pad_id take no position (the RoBERTa families)."""
        return self.model_type in _OFFSET_FAMILIES

    @property
    def usable_length(self) -> int:
        """Tokens of the longest text that the position table can place."""
        return self.max_positions - self.position_offset


def check_length(config: EncoderConfig, length: int) -> None:
    """Refuse rows of `length` tokens, one text each, beyond the position table (UserError)."""
    if length > config.usable_length:
        raise UserError(
            f"a row of {length} tokens is longer than the {config.usable_length} positions of this "
            f"{config.model_type} encoder: truncate the text (max_tokens) or split it"
        )


def check_ids(
    config: EncoderConfig,
    ids: Any,
    position_ids: Any = None,
    token_type_ids: Any = None,
    segment_ids: Any = None,
) -> None:
    """Refuse, on the host, what a gather inside jit could not report.

    Args:
      config: the encoder that would read them.
      ids, position_ids, token_type_ids, segment_ids: integers of one shape, as [B, L], or None.
        position_ids are 0-based within each text. Without position_ids and segment_ids a row is
        one text and its length is checked; with segment_ids alone each segment's length is.

    Raises:
      UserError: naming the argument, the place and the value that is out of range.
    """
    tokens = _integers("ids", ids)
    _in_range("ids", tokens, config.vocab_size, "the vocabulary")
    if token_type_ids is not None:
        kinds = _integers("token_type_ids", token_type_ids, tokens.shape)
        _in_range("token_type_ids", kinds, config.type_vocab, "the token type table")
    if position_ids is not None:
        places = _integers("position_ids", position_ids, tokens.shape)
        _in_range("position_ids", places, config.usable_length, "the position table")
    if segment_ids is None:
        if position_ids is None:
            check_length(config, tokens.shape[-1] if tokens.ndim else 1)
        return
    segments = _integers("segment_ids", segment_ids, tokens.shape)
    if segments.size and segments.min() < 0:
        raise UserError(f"segment_ids must be 0 (padding) or 1, 2, ...: found {segments.min()}")
    if position_ids is None:
        for row in segments.reshape(-1, segments.shape[-1]):
            counts = np.bincount(row)[1:]
            check_length(config, int(counts.max(initial=0)))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"encoder {name} {value!r} is not supported: one of {', '.join(allowed)}")


def _integers(name: str, values: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{name} must be integers, not {array.dtype}")
    if shape is not None and array.shape != shape:
        raise UserError(f"{name} has shape {array.shape}, ids have {shape}")
    return array


def _in_range(name: str, values: np.ndarray, limit: int, table: str) -> None:
    if not values.size or (values.min() >= 0 and values.max() < limit):
        return
    place = tuple(int(i) for i in np.argwhere((values < 0) | (values >= limit))[0])
    raise UserError(
        f"{name}{list(place)} = {int(values[place])} lies outside {table} (0 to {limit - 1}): "
        "was another tokenizer used than the encoder's own?"
    )
