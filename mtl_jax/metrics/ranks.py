"""Ranks of the relevant items among all items, without sampling.

**Ties** are averaged: an item of a tied group takes the group's mean rank (2.5 for a tie over
places 2 and 3), so that no value depends on ids. (trec_eval orders equal scores by document id,
descending.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtl_jax.metrics.base import AnyArray, FloatArray, IntArray


@dataclass(frozen=True)
class Ragged:
    """Lists of item ids, one per query: query q's are ids[offsets[q]:offsets[q + 1]].

    offsets [Q + 1] from 0 to len(ids), never falling; ValueError otherwise.
    """

    offsets: IntArray
    ids: IntArray

    def __post_init__(self) -> None:
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or (steps < 0).any():
            raise ValueError(f"offsets must rise from 0 to the {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def query(self) -> IntArray:
        """The query of each id [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def part(self, rows: slice) -> "Ragged":
        """The lists of queries rows.start to rows.stop."""
        offsets = self.offsets[rows.start : rows.stop + 1]
        return Ragged(offsets - offsets[0], self.ids[offsets[0] : offsets[-1]])


@dataclass(frozen=True)
class Ranks:
    """Ranks (from 1, ties averaged, inf = not ranked) of each query's relevant items.

    Query q's are ranks[offsets[q]:offsets[q + 1]]. A query without relevant items counts in no
    measure, as in trec_eval.
    """

    offsets: IntArray
    ranks: FloatArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def relevant(self) -> IntArray:
        """Number of relevant items of each query [Q]."""
        return np.diff(self.offsets)


def as_ranks(ranks: "Ranks | AnyArray") -> Ranks:
    """Ranks from themselves, or from [Q] ranks of one relevant item per query.

    ValueError for a rank below 1 or NaN.
    """
    if not isinstance(ranks, Ranks):
        flat = np.asarray(ranks, dtype=np.float64)
        ranks = Ranks(np.arange(len(flat) + 1), flat)
    if not (ranks.ranks >= 1).all():
        raise ValueError("a rank is a number from 1 upwards, or inf for an item not ranked")
    return ranks


def one_each(targets: "Ragged | AnyArray") -> Ragged:
    """Ragged from itself, or from [Q] ids, one per query."""
    if isinstance(targets, Ragged):
        return targets
    ids = np.asarray(targets, dtype=np.int64)
    return Ragged(np.arange(len(ids) + 1), ids)


def rank_of_targets(
    scores: AnyArray, targets: "Ragged | AnyArray", exclude: AnyArray | None = None
) -> FloatArray:
    """Rank of each target among its row's candidates, ties averaged.

    scores [B, N] (any float type, compared as it is); targets: ids [B], or Ragged of B lists with
    M ids; exclude [B, N] True = no candidate. A target is always a candidate, excluded or not.
    Returns [B] or [M]: 1 + (candidates above) + (others at the same score) / 2.
    Raises ValueError for NaN scores of candidates and ids outside 0..N-1.
    """
    ragged = one_each(targets)
    items = scores.shape[1]
    check_ids("target", ragged.ids, items)
    if len(ragged) != len(scores):
        raise ValueError(f"{len(ragged)} lists of targets for {len(scores)} rows of scores")
    open_ = np.ones(scores.shape, dtype=bool) if exclude is None else ~np.asarray(exclude, bool)
    open_[ragged.query, ragged.ids] = True
    if np.isnan(scores.min(initial=np.inf)) and (unknown := np.isnan(scores) & open_).any():
        raise ValueError(f"scores of row {int(np.argmax(unknown.any(axis=1)))} hold NaN")
    if len(ragged.ids) == len(scores) and (np.diff(ragged.offsets) == 1).all():
        rank = np.empty(len(scores))
        for row, (values, own, among) in enumerate(zip(scores, ragged.ids, open_, strict=True)):
            above, level = (values > values[own]) & among, (values == values[own]) & among
            rank[row] = np.count_nonzero(above) + (np.count_nonzero(level) + 1) / 2
        return rank
    rank = np.empty(len(ragged.ids))
    for row, (start, stop) in enumerate(zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)):
        if start == stop:
            continue
        ordered = np.sort(-scores[row, open_[row]])
        own = -scores[row, ragged.ids[start:stop]]
        first, after = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
        rank[start:stop] = (first + 1 + after) / 2
    return rank


def check_ids(name: str, ids: IntArray, items: int) -> None:
    """ValueError naming the first id outside 0..items-1."""
    bad = (ids < 0) | (ids >= items)
    if bad.any():
        raise ValueError(
            f"{name} {ids[np.argmax(bad)]} is no item: the scores have {items} columns"
        )


def blocked_ranks(
    score_block: Callable[[slice], AnyArray],
    targets: "Ragged | AnyArray",
    excluded: Ragged | None = None,
    candidates: AnyArray | None = None,
    block: int = 256,
) -> Ranks:
    """Ranks of all queries' targets; `block` queries are scored at a time.

    score_block(slice) -> scores [B, N] of those queries against all items; targets: ids [Q] or
    Ragged of Q lists; excluded: Ragged of Q lists of items that are no candidates (consumed ones),
    None for none; candidates [N]: False = never a candidate (row 0, the padding), None for all.
    Targets are candidates whatever these say.
    """
    ragged = one_each(targets)
    queries = len(ragged)
    if excluded is not None and len(excluded) != queries:
        raise ValueError(f"{len(excluded)} lists of excluded items for {queries} queries")
    found = []
    for start in range(0, queries, block):
        rows = slice(start, min(start + block, queries))
        scores = np.asarray(score_block(rows))
        if scores.shape[0] != rows.stop - rows.start:
            raise ValueError(f"score_block gave {scores.shape[0]} rows for {rows}")
        closed = np.zeros(scores.shape, dtype=bool)
        if candidates is not None:
            closed |= ~np.asarray(candidates, dtype=bool)
        if excluded is not None:
            part = excluded.part(rows)
            check_ids("excluded item", part.ids, scores.shape[1])
            closed[part.query, part.ids] = True
        found.append(rank_of_targets(scores, ragged.part(rows), closed))
    return Ranks(ragged.offsets, np.concatenate(found) if found else np.empty(0))
