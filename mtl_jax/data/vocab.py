"""Fitted, serialisable transforms: ids and categories to codes, numbers to standard ones.

Code 0 is always "missing or unknown". A vocabulary with buckets is open: values without a code of
their own share one by their hash (CRC-32 of their UTF-8), those that come later as well.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.hashing import buckets_of


@dataclass(frozen=True)
class Vocabulary:
    """values[code] is the value; values[0] is "" (missing or unknown).

    buckets: codes behind those of the values, for all other values; 0 closes the vocabulary.
    """

    values: tuple[str, ...]
    buckets: int = 0

    def __len__(self) -> int:
        return len(self.values) + self.buckets

    def encode(self, values: pl.Series) -> np.ndarray:
        """Codes of the values, [N] int32; a missing value is 0, one not in the vocabulary too
        unless there are buckets."""
        codes = pl.DataFrame(
            {"value": self.values[1:], "code": np.arange(1, len(self.values), dtype=np.int32)},
            schema={"value": pl.String, "code": pl.Int32},
        )
        texts = values.cast(pl.String).alias("value")
        if self.buckets:
            others = texts.unique().drop_nulls()
            others = others.filter((others != "") & ~others.is_in(list(self.values)))
            hashed = len(self.values) + buckets_of(others, self.buckets)
            more = pl.DataFrame({"value": others, "code": pl.Series(hashed, dtype=pl.Int32)})
            codes = pl.concat([codes, more])
        joined = texts.to_frame().join(codes, on="value", how="left", maintain_order="left")
        return joined["code"].fill_null(0).to_numpy().astype(np.int32)

    def save(self, path: Path) -> None:
        """Writes JSON: the values as a list, or an object of values and buckets."""
        told: Any = list(self.values)
        if self.buckets:
            told = {"values": told, "buckets": self.buckets}
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote; UserError naming the file if it is not that."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable vocabulary ({error}); prepare again") from None
        found = told if isinstance(told, dict) else {"values": told, "buckets": 0}
        values = found.get("values")
        if not isinstance(values, list) or not values or values[0] != "":
            raise UserError(f'{path}: not a vocabulary (a JSON list starting with "")')
        return cls(tuple(values), int(found.get("buckets", 0)))


def id_vocabulary(*columns: pl.Series) -> Vocabulary:
    """All distinct ids, in order of first appearance, from 1 on."""
    ids = pl.concat([column.cast(pl.String) for column in columns]).drop_nulls()
    return Vocabulary(("", *ids.filter(ids != "").unique(maintain_order=True)))


def fit_categorical(values: pl.Series, min_count: int = 1, buckets: int = 0) -> Vocabulary:
    """The distinct values that stand there at least `min_count` times, sorted.

    The caller passes the rows that may be looked at.
    """
    seen = values.cast(pl.String).drop_nulls().alias("value").value_counts(name="n")
    seen = seen.filter((pl.col("value") != "") & (pl.col("n") >= min_count))
    return Vocabulary(("", *sorted(seen["value"])), buckets)


def fit_tags(values: pl.Series, min_count: int = 1, buckets: int = 0) -> Vocabulary:
    """As `fit_categorical`, over a column of lists."""
    return fit_categorical(values.explode(empty_as_null=True), min_count, buckets)


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
    """Per column (x - mean) / std; a missing value is 0 and its flag column 1.

    lows, highs: bounds to which values are cut first, None for none.
    """

    columns: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that `encode` gives: each column, then each column's flag."""
        return (*self.columns, *(f"{name}.missing" for name in self.columns))

    def encode(self, frame: pl.DataFrame) -> np.ndarray:
        """[N, 2F] float32, columns as `names`."""
        out = np.zeros((frame.height, 2 * len(self.columns)), np.float32)
        fitted = zip(self.columns, self.means, self.stds, self.lows, self.highs, strict=True)
        for i, (name, mean, std, low, high) in enumerate(fitted):
            column = _numbers(frame, name)
            absent = ~np.isfinite(column)
            if low is not None and high is not None:
                column = np.clip(column, low, high)
            out[:, i] = np.where(absent, 0.0, (np.where(absent, 0, column) - mean) / std)
            out[:, len(self.columns) + i] = absent
        return out


def fit_standardise(
    frame: pl.DataFrame, columns: Iterable[str], fences: float = 0.0
) -> Standardise:
    """Mean and standard deviation over the finite values; a constant column gets std 1.

    fences: values are first cut to that many interquartile ranges beyond the quartiles (Tukey,
        1977); 0 leaves them.
    """
    names, means, stds, lows, highs = tuple(columns), [], [], [], []
    for name in names:
        column = _numbers(frame, name)
        finite = column[np.isfinite(column)]
        low, high = tukey_fences(finite, fences)
        if low is not None and high is not None:
            finite = np.clip(finite, low, high)
        means.append(float(finite.mean()) if len(finite) else 0.0)
        spread = float(finite.std()) if len(finite) else 0.0
        stds.append(spread if spread > 0 else 1.0)
        lows.append(low)
        highs.append(high)
    return Standardise(names, tuple(means), tuple(stds), tuple(lows), tuple(highs))


def tukey_fences(values: np.ndarray, fences: float) -> tuple[float | None, float | None]:
    """Quartiles of finite values -+ `fences` interquartile ranges; None, None where off or flat."""
    if not fences or not len(values):
        return None, None
    first, third = np.quantile(values, [0.25, 0.75])
    if third <= first:  # half of the values are one: all others would be outliers
        return None, None
    reach = fences * (third - first)
    return float(first - reach), float(third + reach)


def _numbers(frame: pl.DataFrame, name: str) -> np.ndarray:
    column: np.ndarray = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return column
