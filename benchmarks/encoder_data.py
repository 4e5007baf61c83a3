"""What both sides of the encoder benchmark read: texts as tokens, shapes of models, operations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HostArray = np.ndarray[Any, np.dtype[Any]]

# H, layers, heads, ffn. MiniLM's weights are the real ones, BERT's are drawn.
SHAPES = {"minilm": (384, 6, 12, 1536), "bert": (768, 12, 12, 3072)}
VOCABULARY = 30522


@dataclass(frozen=True)
class Case:
    """A model, L (texts are cut to it) and the number of texts a step."""

    model: str
    length: int
    texts: int

    @property
    def name(self) -> str:
        """Of its rows."""
        return f"{self.model}-L{self.length}"


def cases(suite: str, quick: bool) -> tuple[Case, ...]:
    """MiniLM and BERT-base at L = 128 and 512."""
    if suite == "gpu":
        return tuple(Case(m, n, 1024) for m in SHAPES for n in (128, 512))
    if quick:
        return (Case("minilm", 128, 32),)
    return (
        Case("minilm", 128, 128), Case("minilm", 512, 48), Case("bert", 128, 24),
        Case("bert", 512, 24),
    )  # fmt: skip


def operations(lengths: HostArray, model: str, train: bool) -> float:
    """Of matrix products over the texts' own tokens: per layer and text of n tokens
    2 n (4 H^2 + 2 H ffn) + 4 n^2 H; training is three times the forward pass."""
    H, layers, _, ffn = SHAPES[model]
    n = lengths.astype(np.float64)
    each = 2 * n * (4 * H * H + 2 * H * ffn) + 4 * n * n * H
    return float(each.sum()) * layers * (3 if train else 1)


def bytes_moved(lengths: HostArray, model: str, width: int) -> float:
    """Of a training step, those that no matrix product can hide: numbers of `width` bytes.

    Per layer and token: each of the two sums under a LayerNorm reads two vectors of H and writes
    one, forward and backward (12 H); attention reads and writes 4 H forward, 8 H backward. AdamW
    reads parameter, gradient and two moments in float32 and writes three of them (28 bytes).
    """
    H, layers, _, ffn = SHAPES[model]
    each = 4 * H * H + 2 * H * ffn
    parameters = layers * each + (VOCABULARY + 512) * H
    return float(lengths.sum()) * layers * 24 * H * width + 28 * parameters


def save(path: Path, tokens: HostArray, offsets: HostArray, weights: HostArray) -> None:
    """tokens int32 [total], offsets int64 [n + 1], weights [n, H] of the loss."""
    np.savez(path, tokens=tokens, offsets=offsets, weights=weights)


def groups(lengths: HostArray, n: int) -> list[HostArray]:
    """Texts sorted by length, cut into n groups of about equal numbers of tokens."""
    order = np.argsort(lengths, kind="stable")
    share = np.cumsum(lengths[order]) / lengths.sum()
    cuts = np.searchsorted(share, np.arange(1, n) / n)
    return [part for part in np.split(order, cuts) if len(part)]


def rows(tokens: HostArray, offsets: HostArray, which: HostArray, width: int) -> HostArray:
    """ids [n, width] of the texts, one a row, padded with 0."""
    ids = np.zeros((len(which), width), np.int32)
    for r, t in enumerate(which):
        text = tokens[offsets[t] : offsets[t + 1]]
        ids[r, : len(text)] = text
    return ids
