"""Many texts through a frozen encoder: packed rows, few static shapes, no gradients, no dropout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.adapt.progress import Callback
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import Array, HostArray, Params
from mtl_jax.data.packing import fill_rows, pack
from mtl_jax.nn.encoder import Encoder, EncoderConfig, check_ids
from mtl_jax.nn.pooling import pool

# Rows of the short texts. Attention costs rise with the row, so long rows serve long texts only.
SHORT_ROW = 64


@dataclass(frozen=True)
class Group:
    """Texts that go through the encoder in one call; groups of one `shape` share one program.

    which: texts [n]; row_of, offset_of: their places [n]; shape: (P, L); U: n, padded.
    """

    which: HostArray
    row_of: HostArray
    offset_of: HostArray
    shape: tuple[int, int]
    U: int


@dataclass(frozen=True)
class Texts:
    """Tokenised texts: tokens int32 [total], text t at offsets[t] .. offsets[t + 1] (int64).

    types: token types [total] of text pairs, None for single texts.
    """

    tokens: HostArray
    offsets: HostArray
    types: HostArray | None = None

    @property
    def lengths(self) -> HostArray:
        """Tokens of each text [n] int64."""
        return cast(HostArray, np.diff(np.asarray(self.offsets, np.int64)))

    def check(self, config: EncoderConfig) -> None:
        """UserError for offsets that do not fit, unknown ids, or a text beyond the positions."""
        offsets, lengths = np.asarray(self.offsets), self.lengths
        if not lengths.size or not self.tokens.size:
            raise UserError("there is no text to encode: every item is empty")
        if offsets[0] != 0 or offsets[-1] != self.tokens.size or lengths.min() < 0:
            raise UserError(
                f"token offsets run from {offsets[0]} to {offsets[-1]} over {self.tokens.size} "
                "tokens: they belong to another tokens file; prepare the data again"
            )
        if lengths.max() > config.usable_length:
            raise UserError(
                f"text {int(lengths.argmax())} has {lengths.max()} tokens and the encoder "
                f"{config.usable_length} positions: lower max_tokens and prepare the data again"
            )
        check_ids(config, self.tokens, np.zeros_like(self.tokens), self.types)


def group_texts(lengths: HostArray, call_tokens: int) -> list[Group]:
    """Pack texts of the given lengths [n] into calls of about call_tokens tokens.

    At most two shapes: rows of SHORT_ROW tokens, and rows as long as the longest text (rounded up
    to 32). Empty texts are in no group.
    """
    longest = int(lengths.max())
    widths = [SHORT_ROW] if longest <= SHORT_ROW else [SHORT_ROW, -(-longest // 32) * 32]
    groups = []
    low = 0
    for L in widths:
        which = np.flatnonzero((lengths > low) & (lengths <= L))
        groups += _groups_of_width(which, lengths[which], L, call_tokens)
        low = L
    return groups


def _groups_of_width(which: HostArray, lengths: HostArray, L: int, call_tokens: int) -> list[Group]:
    if not which.size:
        return []
    row_of, offset_of = pack(lengths, L)
    rows = int(row_of.max()) + 1
    calls = -(-rows * L // max(call_tokens, L))
    P = -(-rows // calls)  # equal calls: the last one is not mostly padding
    call_of = row_of // P
    U = int(np.bincount(call_of).max())
    order = np.argsort(call_of, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(call_of[order])) + 1)
    return [Group(which[i], row_of[i] % P, offset_of[i], (P, L), U) for i in parts]


def encode_pooled(
    config: EncoderConfig, params: Params, texts: Texts, pooling: str, call_tokens: int
) -> Iterator[tuple[HostArray, HostArray]]:
    """(which [n], vectors [n, H] float32) group by group; empty texts do not come."""
    layers = {name: tree for name, tree in params.items() if name != "pooler"}

    @partial(jax.jit, static_argnames="U")
    def run(params: Params, pooler: Params | None, rows: dict[str, Array], U: int) -> Array:
        hidden = _forward(config, params, rows, None)
        return pool(hidden, rows["owner"], rows["positions"], U, pooling, pooler)

    device_params = jax.tree.map(jnp.asarray, dict(layers))
    pooler = jax.tree.map(jnp.asarray, params["pooler"]) if pooling == "pooler" else None

    def call(group: Group, rows: dict[str, HostArray]) -> Array:
        return run(device_params, pooler, rows, U=group.U)

    for group, _, vectors in _one_late(config, texts, call, call_tokens):
        yield group.which, vectors[: group.which.size]


def encode_states(
    config: EncoderConfig, params: Params, texts: Texts, cut_layer: int, call_tokens: int
) -> Iterator[tuple[HostArray, HostArray, int]]:
    """(place [m] in texts.tokens, states [m, H] bfloat16, texts done) group by group."""

    @jax.jit
    def run(params: Params, rows: dict[str, Array]) -> Array:
        return _forward(config, params, rows, cut_layer).astype(jnp.bfloat16)

    device_params = jax.tree.map(jnp.asarray, dict(params))

    def call(group: Group, rows: dict[str, HostArray]) -> Array:
        return run(device_params, rows)

    for group, rows, states in _one_late(config, texts, call, call_tokens):
        real = rows["segments"] > 0
        starts = np.asarray(texts.offsets)[group.which]
        yield starts[rows["owner"][real]] + rows["positions"][real], states[real], group.which.size


def _forward(
    config: EncoderConfig, params: Params, rows: dict[str, Array], stop: int | None
) -> Array:
    # float32 means float32 on every device: some multiply in TF32 unless told.
    with jax.default_matmul_precision("float32"):
        hidden = Encoder(config).apply(
            {"params": params},
            rows["ids"],
            token_type_ids=rows.get("types"),
            segment_ids=rows["segments"],
            position_ids=rows["positions"],
            stop_layer=stop,
        )
    return cast(Array, hidden)


def _one_late(
    config: EncoderConfig,
    texts: Texts,
    call: Callable[[Group, dict[str, HostArray]], Array],
    call_tokens: int,
) -> Iterator[tuple[Group, dict[str, HostArray], HostArray]]:
    """Groups with their rows and results, fetched while the next one is computed."""
    waiting: tuple[Group, dict[str, HostArray], Array] | None = None
    lengths = texts.lengths
    starts = np.asarray(texts.offsets)[:-1]
    for group in group_texts(lengths, call_tokens):
        rows = fill_rows(
            texts.tokens, starts[group.which], lengths[group.which], group.row_of,
            group.offset_of, group.shape, config.pad_id, group.U,
        )  # fmt: skip
        if texts.types is not None:
            real = rows["segments"] > 0
            rows["types"] = np.zeros_like(rows["ids"])
            first = starts[group.which][rows["owner"][real]]
            rows["types"][real] = texts.types[first + rows["positions"][real]]
        result = call(group, rows)
        if waiting is not None:
            yield waiting[0], waiting[1], np.asarray(waiting[2])
        waiting = (group, rows, result)
    if waiting is not None:
        yield waiting[0], waiting[1], np.asarray(waiting[2])


def count_texts(lengths: HostArray, progress: Callback | None) -> Callable[[int], None]:
    """A function that is told how many more texts are done and tells `progress`."""
    done = int((lengths == 0).sum())

    def more(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, lengths.size)

    return more
