"""Item texts: a template filled from the columns, then a Hugging Face tokenizer."""

import difflib
import json
import os
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.prepared import file_digest

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class Tokens:
    """Token ids of all texts, one after the other.

    ids [E] int32; offsets [n + 1] int64: text i is ids[offsets[i]:offsets[i + 1]];
    types [E] int8, the token types of a pair, None for single texts; cut: texts that were longer.
    """

    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None
    cut: int


def template_fields(template: str, columns: list[str]) -> list[str]:
    """The columns a template names.

    Raises:
        UserError: a name that is no column, with the nearest one, or braces that do not match.
    """
    try:
        parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"data.template {template!r}: {error}") from None
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise UserError(f"data.template {template!r}: only plain {{column}} is understood")
    found = [str(name) for _, name, _, _ in parsed]
    for name in found:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1, 0.0)
            raise UserError(
                f"data.template {template!r}: the items have no column {name!r}; "
                f"nearest is {near[0]!r}"
            )
    return found


def render(template: str, items: pl.DataFrame) -> list[str]:
    """One text per item. A missing value is empty, a list joined by ", ", blanks are collapsed."""
    fields = template_fields(template, items.columns)
    columns = {name: [_shown(value) for value in items[name]] for name in dict.fromkeys(fields)}
    texts = []
    for row in range(items.height):
        text = template.format_map({name: values[row] for name, values in columns.items()})
        texts.append(re.sub(r"\s+", " ", text).strip())
    return texts


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:g}"
    if isinstance(value, pl.Series | list):
        return ", ".join(str(v) for v in value if v is not None)
    return str(value)


def load_tokenizer(folder: str | Path) -> Callable[..., Any]:
    """The tokenizer of a local Hugging Face folder; nothing is ever downloaded.

    Raises:
        UserError: no such folder, or no tokenizer in it.
    """
    if not Path(folder).is_dir():
        raise UserError(
            f"data.tokenizer: {str(folder)!r} is not a folder. --set=encoder.folder=... names a "
            "local Hugging Face folder: config.json, model.safetensors, and tokenizer.json or "
            "vocab.txt"
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer  # seconds to import: only where texts are cut to tokens

    try:
        found: Callable[..., Any] = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"data.tokenizer: no tokenizer in {folder}: {error}") from error
    return found


def tokenise(
    tokenizer: Callable[..., Any],
    texts: list[str],
    pairs: list[str] | None,
    max_tokens: int,
    positions: int | None = None,
) -> Tokens:
    """Token ids with special tokens, cut to max_tokens.

    Args:
        pairs: the second texts of pairs, or None.
        positions: how long a text the encoder's position table holds, None = not known.

    Raises:
        UserError: max_tokens beyond the position table, or too small for the special tokens.
    """
    if positions is not None and max_tokens > positions:
        raise UserError(
            f"data.max_tokens={max_tokens} is more than the {positions} positions the encoder "
            f"has; set data.max_tokens={positions} or less"
        )
    if max_tokens < (4 if pairs is None else 6):
        raise UserError(f"data.max_tokens={max_tokens} leaves no room for text")
    encoded = _call(tokenizer, texts, pairs, truncation=True, max_length=max_tokens)
    ids = encoded["input_ids"]
    lengths = np.array([len(text) for text in ids], np.int64)
    types = None
    if pairs is not None and "token_type_ids" in encoded:
        types = np.concatenate([np.asarray(t, np.int8) for t in encoded["token_type_ids"]])
    return Tokens(
        np.concatenate([np.asarray(text, np.int32) for text in ids]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        types,
        _cut(tokenizer, texts, pairs, np.flatnonzero(lengths == max_tokens), max_tokens),
    )


def _cut(
    tokenizer: Callable[..., Any],
    texts: list[str],
    pairs: list[str] | None,
    full: np.ndarray,
    max_tokens: int,
) -> int:
    """How many of the `full` texts (indices of those of max_tokens) were longer than that."""
    if not len(full):
        return 0
    second = None if pairs is None else [pairs[i] for i in full]
    whole = _call(tokenizer, [texts[i] for i in full], second)["input_ids"]
    return sum(len(text) > max_tokens for text in whole)


def _call(
    tokenizer: Callable[..., Any], texts: list[str], pairs: list[str] | None, **options: Any
) -> Any:
    second = {} if pairs is None else {"text_pair": pairs}
    return tokenizer(texts, **second, return_attention_mask=False, verbose=False, **options)


def position_limit(folder: str | Path) -> int | None:
    """How many tokens the encoder beside the tokenizer takes; None where no config.json says so."""
    path = Path(folder) / "config.json"
    if not path.exists():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    size = config.get("max_position_embeddings")
    if size is None:
        return None
    # RoBERTa numbers positions from pad_token_id + 1 on.
    if "roberta" in str(config.get("model_type")):
        return int(size) - int(config.get("pad_token_id", 1)) - 1
    return int(size)


def tokenizer_files(folder: str | Path) -> list[list[str]]:
    """(name, sha256) of the tokenizer's files."""
    present = [name for name in _TOKENIZER_FILES if (Path(folder) / name).exists()]
    return [[name, file_digest(Path(folder) / name)] for name in present]
