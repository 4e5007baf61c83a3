"""Ids without end in a table that has one: buckets by a hash that is the same everywhere."""

import zlib
from collections.abc import Iterable

import numpy as np


def buckets_of(values: Iterable[str], buckets: int) -> np.ndarray:
    """CRC-32 of each value's UTF-8, modulo `buckets`: [N] int32.

    It has no seed, and is the same in every process and version, unlike Python's own. An integer
    id is hashed by its digits.
    """
    return np.array([zlib.crc32(value.encode()) % buckets for value in values], np.int32)


def hashed_rows(ids: Iterable[str], buckets: int) -> np.ndarray:
    """Rows of a table of 1 + `buckets` rows for each id; row 0 is that of "", no id."""
    ids = list(ids)
    missing = np.array([value == "" for value in ids], bool)
    rows: np.ndarray = np.where(missing, 0, 1 + buckets_of(ids, buckets)).astype(np.int32)
    return rows


def collisions(rows: np.ndarray, buckets: int) -> str:
    """What the report says of the rows [N] of the users who are trained on."""
    used, counts = np.unique(rows[rows > 0], return_counts=True)
    n, shared = int(counts.sum()), int(counts[counts > 1].sum())
    chance = 1.0 - (1.0 - 1.0 / buckets) ** max(n - 1, 0)
    return (
        f"users are hashed to {buckets} rows: {n} users with training rows have {len(used)} of "
        f"them, {shared} ({shared / max(n, 1):.1%}) share theirs (by chance: {chance:.1%})"
    )
