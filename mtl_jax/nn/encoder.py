"""BERT and RoBERTa (XLM-R, CamemBERT) in Flax Linen, whole or cut at a layer.

Parameters, a plain dict (kernels are [in, out]; see `mtl_jax.adapt.hf_weights` for HF's names):
  embeddings: word [V, H], position [M, H], token_type [T, H], norm {scale, bias}
  layer_0 ..: query, key, value, attention_out, ffn_in, ffn_out {kernel, bias};
              attention_norm, ffn_norm {scale, bias}
  pooler:     {kernel [H, H], bias}, where the model has one; read by `mtl_jax.nn.pooling` only.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.errors import UserError
from mtl_jax.core.placement import ambient
from mtl_jax.core.types import Array
from mtl_jax.nn.attention import cut, segments_of
from mtl_jax.nn.dropout import Dropout
from mtl_jax.nn.encoder_config import MODEL_TYPES, EncoderConfig, check_ids, check_length
from mtl_jax.nn.layers import DTYPES, KEPT, EncoderLayer, layer_norm, lookup

__all__ = ["MODEL_TYPES", "Encoder", "EncoderConfig", "check_ids", "init_params", "table_rows"]

# On a CPU a batch of so many tokens times layers goes through its layers by slices of rows, whose
# temporaries (50 kB a token and layer of MiniLM in training) are used again. Below, a whole batch
# is up to a sixth faster; above, MiniLM's six layers train in .55 to .65 of the time.
SLICED = 32_768
SLICE = 1024  # tokens, or one row


class Encoder(nn.Module):
    """ids -> hidden states; see `__call__`."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self,
        ids: Array | None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        segment_ids: Array | None = None,
        position_ids: Array | None = None,
        *,
        deterministic: bool = True,
        start_layer: int = 0,
        stop_layer: int | None = None,
        hidden: Array | None = None,
    ) -> Array:
        """Encode rows of tokens, on a CPU a large batch slice by slice.

        Of a slice's layers the backward pass finds the input, what attention gave and the two
        products back to the width, and computes the rest anew; or what `remat` says.

        Args:
          ids: int [B, L]; may be None when `hidden` is given.
          attention_mask: [B, L], nonzero = a token; None = all ones.
          token_type_ids: int [B, L]; None = zeros.
          segment_ids: int [B, L] of packed rows, 0 = padding, 1.. = texts. A token attends to
            its own text only, so a text gets the vectors it would get alone.
          position_ids: int [B, L], 0-based within each text (RoBERTa's offset is added here).
            None: counted within each segment, or the row; RoBERTa counts ids != pad_id.
          deterministic: False draws dropout from the rng collection "dropout".
          start_layer, hidden: run from these states [B, L, H] on, which are what `stop_layer=
            start_layer` returned; the embeddings are then not used.
          stop_layer: run layers start_layer .. stop_layer - 1; None = all. 0 gives the embeddings.
            Only the parameters of what runs need be present.

        Returns:
          [B, L, H] in config.dtype. At padding it is finite and means nothing.

        Raises:
          UserError: for ids, types or positions out of range, where they are concrete; under
            jit such a token gives NaN (check on the host: `check_ids`).
        """
        config = self.config
        stop = config.layers if stop_layer is None else stop_layer
        if not 0 <= start_layer <= stop <= config.layers or (hidden is None and start_layer):
            raise UserError(
                f"cannot run layers {start_layer} to {stop} of {config.layers}"
                + (": starting above the embeddings needs hidden=" if hidden is None else "")
            )
        if hidden is None:
            if ids is None:
                raise UserError("ids are needed unless hidden states are given")
            _refuse_unreadable(config, ids, position_ids, token_type_ids, segment_ids)
            rows = table_rows(config, jnp.asarray(ids), segment_ids, position_ids)
            hidden = Embeddings(config, name="embeddings")(
                jnp.asarray(ids), token_type_ids, rows, deterministic
            )
        parts = _parts(hidden.shape, stop - start_layer)
        layer = partial(
            _layer(config.remat, parts > 1),
            heads=config.heads,
            ffn=config.ffn,
            activation=config.activation,
            norm_eps=config.norm_eps,
            hidden_dropout=config.hidden_dropout,
            attention_dropout=config.attention_dropout,
            init_range=config.init_range,
            dtype=DTYPES[config.dtype],
            kernel=config.attention,
        )

        def part(module: nn.Module, _: None, own: dict[str, Array]) -> tuple[None, Array]:
            x = own["hidden"]
            segments = segments_of(own.get("mask"), own.get("segments"), x.shape[:2])
            for n in range(start_layer, stop):
                x = layer(name=f"layer_{n}")(x, segments, deterministic)
            return None, jnp.asarray(x, DTYPES[config.dtype])

        given = {"hidden": hidden, "mask": attention_mask, "segments": segment_ids}
        batch = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
        if parts == 1:
            return part(self, None, batch)[1]
        each = nn.scan(
            part, variable_broadcast="params", split_rngs={"params": False, "dropout": True}
        )
        size = -(-len(hidden) // parts)
        found = each(self, None, {name: cut(x, size) for name, x in batch.items()})[1]
        return found.reshape(-1, *hidden.shape[1:])[: hidden.shape[0]]


def _parts(shape: tuple[int, ...], layers: int) -> int:
    """Slices in which rows [B, L, H] go through so many layers; 1 on GPUs and TPUs.

    1 on a mesh too: parameters that are spread over it would be gathered in every slice.
    """
    B, L = shape[:2]
    if is_whole(B * L, layers) or jax.default_backend() != "cpu" or ambient() is not None:
        return 1
    return -(-B // max(1, SLICE // L))


def is_whole(tokens: int, layers: int) -> bool:
    """Whether a batch of so many tokens is small enough to go through so many layers at once."""
    return tokens * layers < SLICED


def _layer(remat: str, sliced: bool) -> Any:
    """EncoderLayer, keeping for the backward pass what EncoderConfig.remat says; see `SLICED`."""
    if remat == "none" and not sliced:
        return EncoderLayer
    policies = jax.checkpoint_policies
    keep = {
        "none": policies.save_only_these_names(KEPT),
        "layers": policies.nothing_saveable,
        "activations": policies.dots_with_no_batch_dims_saveable,
    }
    return nn.remat(EncoderLayer, static_argnums=(3,), policy=keep[remat], prevent_cse=not sliced)


class Embeddings(nn.Module):
    """Sum of word, position and token type rows, LayerNorm, dropout."""

    config: EncoderConfig

    @nn.compact
    def __call__(
        self, ids: Array, token_type_ids: Array | None, rows: Array, deterministic: bool
    ) -> Array:
        """ids [B, L], types [B, L] or None (zeros), position table rows [B, L] -> [B, L, H]."""
        config = self.config
        draw = nn.initializers.normal(config.init_range)
        width = config.width
        word = self.param("word", draw, (config.vocab_size, width), jnp.float32)
        position = self.param("position", draw, (config.max_positions, width), jnp.float32)
        token_type = self.param("token_type", draw, (config.type_vocab, width), jnp.float32)
        kinds = token_type[0] if token_type_ids is None else lookup(token_type, token_type_ids)
        x = lookup(word, ids) + kinds + lookup(position, rows)
        x = layer_norm(config.norm_eps, DTYPES[config.dtype], "norm")(x)
        return Dropout(config.hidden_dropout)(x, deterministic)


def table_rows(
    config: EncoderConfig, ids: Array, segment_ids: Array | None, position_ids: Array | None
) -> Array:
    """Rows of the position table [B, L] (int32) for tokens ids [B, L].

    BERT's position p reads row p. RoBERTa counts the tokens that are not pad_id, from ids and not
    from the mask (HF's create_position_ids_from_input_ids): token p reads row p + pad_id + 1, and
    pad_id itself reads row pad_id. Given position_ids are shifted and otherwise taken as they are.
    """
    if position_ids is not None:
        return jnp.broadcast_to(jnp.asarray(position_ids), ids.shape) + config.position_offset
    counted = (ids != config.pad_id) if config.positions_from_ids else jnp.ones(ids.shape, bool)
    if segment_ids is None:
        place = jnp.cumsum(counted, axis=-1, dtype=jnp.int32)
    else:
        segments = jnp.asarray(segment_ids)
        same = segments[:, :, None] == segments[:, None, :]
        before = jnp.tril(same & counted[:, None, :])
        place = jnp.where(segments > 0, before.sum(-1, dtype=jnp.int32), 1)
    if config.positions_from_ids:
        return place * counted + config.pad_id
    return place - 1


def init_params(config: EncoderConfig, key: Array) -> dict[str, Any]:
    """Random parameters float32: kernels and embeddings N(0, init_range), biases 0, scales 1."""
    encoder_key, pooler_key = jax.random.split(key)
    draw = jax.jit(Encoder(config).init)
    params = dict(draw(encoder_key, jnp.zeros((1, 1), jnp.int32))["params"])
    if config.has_pooler:
        shape = (config.width, config.width)
        kernel = config.init_range * jax.random.normal(pooler_key, shape)
        params["pooler"] = {"kernel": kernel, "bias": jnp.zeros(config.width)}
    return params


def _refuse_unreadable(config: EncoderConfig, ids: Any, *others: Any) -> None:
    """Check what can be seen: shapes always, values where they are not traced."""
    if jnp.ndim(ids) != 2:
        raise UserError(f"ids must be [rows, tokens], not of shape {jnp.shape(ids)}")
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise UserError(f"ids must be integers, not {jnp.result_type(ids)}")
    position_ids, _, segment_ids = others
    if position_ids is None and segment_ids is None:
        check_length(config, jnp.shape(ids)[1])
    if not any(isinstance(x, jax.core.Tracer) for x in (ids, *others)):
        check_ids(config, ids, *others)
