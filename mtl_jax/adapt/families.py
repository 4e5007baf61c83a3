"""Which HF families are known: their config keys and the names of their tensors.

A new family is one entry of `FAMILIES`. Names and defaults as in transformers 5.23.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mtl_jax.core.errors import UserError
from mtl_jax.nn.encoder import EncoderConfig


@dataclass(frozen=True)
class Entry:
    """One parameter: where it lies in our tree, and what HF calls it (without prefix)."""

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]  # HF's shape
    transpose: bool = False  # a dense weight [out, in] becomes a kernel [in, out]


@dataclass(frozen=True)
class Family:
    """How to read one HF family.

    anchor:   a tensor every checkpoint has; what stands before it is the prefix.
    backbone: beginnings of the names that belong to the encoder; one of these left over is an
              error, anything else left over is a task head and ignored.
    buffers:  tensors inside the backbone that hold no parameter.
    """

    config: Callable[[Mapping[str, Any], str], EncoderConfig]
    entries: Callable[[EncoderConfig], list[Entry]]
    anchor: str
    backbone: tuple[str, ...]
    buffers: tuple[str, ...]


def bert_config(raw: Mapping[str, Any], model_type: str) -> EncoderConfig:
    """EncoderConfig of a BERT or RoBERTa config.json; has_pooler is False until weights are seen.

    Sizes must be given; what else is absent takes HF's class default.
    """
    default_pad = 0 if model_type == "bert" else 1
    pad = raw.get("pad_token_id", default_pad)
    if pad is None and model_type != "bert":
        raise UserError(f"pad_token_id is null, but {model_type} counts its positions from it")
    _refuse_other_architecture(raw)
    return EncoderConfig(
        model_type=model_type,
        vocab_size=_size(raw, "vocab_size"),
        width=_size(raw, "hidden_size"),
        layers=_size(raw, "num_hidden_layers"),
        heads=_size(raw, "num_attention_heads"),
        ffn=_size(raw, "intermediate_size"),
        max_positions=_size(raw, "max_position_embeddings"),
        type_vocab=int(raw.get("type_vocab_size", 2)),
        norm_eps=float(raw.get("layer_norm_eps", 1e-12)),
        activation=str(raw.get("hidden_act", "gelu")),
        hidden_dropout=float(raw.get("hidden_dropout_prob", 0.1)),
        attention_dropout=float(raw.get("attention_probs_dropout_prob", 0.1)),
        pad_id=int(pad or 0),
        init_range=float(raw.get("initializer_range", 0.02)),
    )


def bert_entries(config: EncoderConfig) -> list[Entry]:
    """Every parameter of the encoder, and of the pooler when config.has_pooler."""
    H, F = config.width, config.ffn
    tables = {
        "word": ("word_embeddings", config.vocab_size),
        "position": ("position_embeddings", config.max_positions),
        "token_type": ("token_type_embeddings", config.type_vocab),
    }
    entries = [
        Entry(("embeddings", ours), f"embeddings.{theirs}.weight", (rows, H))
        for ours, (theirs, rows) in tables.items()
    ]
    entries += _norm(("embeddings", "norm"), "embeddings.LayerNorm", H)
    for n in range(config.layers):
        ours, theirs = f"layer_{n}", f"encoder.layer.{n}"
        for part in ("query", "key", "value"):
            entries += _dense((ours, part), f"{theirs}.attention.self.{part}", H, H)
        entries += _dense((ours, "attention_out"), f"{theirs}.attention.output.dense", H, H)
        entries += _norm((ours, "attention_norm"), f"{theirs}.attention.output.LayerNorm", H)
        entries += _dense((ours, "ffn_in"), f"{theirs}.intermediate.dense", F, H)
        entries += _dense((ours, "ffn_out"), f"{theirs}.output.dense", H, F)
        entries += _norm((ours, "ffn_norm"), f"{theirs}.output.LayerNorm", H)
    if config.has_pooler:
        entries += _dense(("pooler",), "pooler.dense", H, H)
    return entries


def _dense(path: tuple[str, ...], name: str, n_out: int, n_in: int) -> list[Entry]:
    return [
        Entry((*path, "kernel"), f"{name}.weight", (n_out, n_in), transpose=True),
        Entry((*path, "bias"), f"{name}.bias", (n_out,)),
    ]


def _norm(path: tuple[str, ...], name: str, width: int) -> list[Entry]:
    return [
        Entry((*path, "scale"), f"{name}.weight", (width,)),
        Entry((*path, "bias"), f"{name}.bias", (width,)),
    ]


def _size(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{key} must be a whole number, found {value!r}")
    return value


def _refuse_other_architecture(raw: Mapping[str, Any]) -> None:
    """Switches that make another network of the same tensors."""
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise UserError("is_decoder or add_cross_attention is set: only encoders are read")
    kind = raw.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise UserError(f"position_embedding_type {kind!r} is not supported, only 'absolute'")


_BERT = Family(
    config=bert_config,
    entries=bert_entries,
    anchor="embeddings.word_embeddings.weight",
    backbone=("embeddings.", "encoder.", "pooler."),
    buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
}
