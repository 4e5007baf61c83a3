"""Fitted, serialisable transforms: ids and categories to codes, numbers to standard ones.

Code 0 is always "missing or unknown"; nothing is clamped or hashed into the vocabulary.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError


@dataclass(frozen=True)
class Vocabulary:
    """values[code] is the value; values[0] is "" (missing or unknown)."""

    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def encode(self, values: pl.Series) -> np.ndarray:
        """Codes of the values, [N] int32; a missing value or one not in the vocabulary is 0."""
        codes = pl.DataFrame(
            {"value": self.values[1:], "code": np.arange(1, len(self), dtype=np.int32)},
            schema={"value": pl.String, "code": pl.Int32},
        )
        joined = (
            values.cast(pl.String)
            .alias("value")
            .to_frame()
            .join(codes, on="value", how="left", maintain_order="left")
        )
        return joined["code"].fill_null(0).to_numpy().astype(np.int32)

    def save(self, path: Path) -> None:
        """Writes a JSON list."""
        text = json.dumps(list(self.values), ensure_ascii=False, separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote; UserError naming the file if it is not that."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable vocabulary ({error}); prepare again") from None
        if not isinstance(values, list) or not values or values[0] != "":
            raise UserError(f'{path}: not a vocabulary (a JSON list starting with "")')
        return cls(tuple(values))


def id_vocabulary(*columns: pl.Series) -> Vocabulary:
    """All distinct ids, in order of first appearance, from 1 on."""
    ids = pl.concat([column.cast(pl.String) for column in columns]).drop_nulls()
    return Vocabulary(("", *ids.filter(ids != "").unique(maintain_order=True)))


def fit_categorical(values: pl.Series) -> Vocabulary:
    """The distinct values, sorted; the caller passes the rows that may be looked at."""
    seen = values.cast(pl.String).drop_nulls().unique()
    return Vocabulary(("", *sorted(seen.filter(seen != ""))))


def fit_tags(values: pl.Series) -> Vocabulary:
    """As `fit_categorical`, over a column of lists."""
    return fit_categorical(values.explode(empty_as_null=True))


def encode_tags(vocabulary: Vocabulary, values: pl.Series) -> np.ndarray:
    """[N, M] int32 codes of each row's distinct tags, ascending, 0-padded at the end."""
    lists = values.cast(pl.List(pl.String))
    flat = lists.explode(empty_as_null=True)
    lengths = np.maximum(lists.list.len().fill_null(1).to_numpy(), 1)
    rows = np.repeat(np.arange(len(values)), lengths)
    pairs = np.unique(np.stack([rows, vocabulary.encode(flat)], 1), axis=0)
    pairs = pairs[pairs[:, 1] > 0]
    counts = np.bincount(pairs[:, 0], minlength=len(values))
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    codes = np.zeros((len(values), int(counts.max(initial=0))), np.int32)
    codes[pairs[:, 0], place] = pairs[:, 1]
    return codes


@dataclass(frozen=True)
class Standardise:
    """Per column (x - mean) / std; a missing value is 0 and its flag column 1."""

    columns: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that `encode` gives: each column, then each column's flag."""
        return (*self.columns, *(f"{name}.missing" for name in self.columns))

    def encode(self, frame: pl.DataFrame) -> np.ndarray:
        """[N, 2F] float32, columns as `names`."""
        values, missing = [], []
        for name, mean, std in zip(self.columns, self.means, self.stds, strict=True):
            column = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            absent = ~np.isfinite(column)
            values.append(np.where(absent, 0.0, (np.where(absent, 0, column) - mean) / std))
            missing.append(absent)
        if not values:
            return np.zeros((frame.height, 0), np.float32)
        return np.stack([*values, *missing], 1).astype(np.float32)


def fit_standardise(frame: pl.DataFrame, columns: Iterable[str]) -> Standardise:
    """Mean and standard deviation over the finite values; a constant column gets std 1."""
    names, means, stds = tuple(columns), [], []
    for name in names:
        column = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        finite = column[np.isfinite(column)]
        means.append(float(finite.mean()) if len(finite) else 0.0)
        spread = float(finite.std()) if len(finite) else 0.0
        stds.append(spread if spread > 0 else 1.0)
    return Standardise(names, tuple(means), tuple(stds))
