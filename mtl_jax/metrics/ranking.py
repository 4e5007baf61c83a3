"""Ranking measures of full ranks, one value per query.

Definitions follow trec_eval (recall_k, ndcg_cut_k, recip_rank, success_k, map_cut_k); without ties
the values are trec_eval's. **Ties differ**: trec_eval breaks them by document id, here a tied item
has the mean rank of its group, which counts as "in the top k" when it is at most k.
"""

import numpy as np

from mtl_jax.metrics.base import FloatArray
from mtl_jax.metrics.ranks import Ragged, Ranks, as_ranks, blocked_ranks, rank_of_targets

__all__ = [
    "Ragged",
    "Ranks",
    "as_ranks",
    "blocked_ranks",
    "hit_rate_at",
    "map_at",
    "mrr_at",
    "ndcg_at",
    "rank_of_targets",
    "recall_at",
]


def _sum(ranks: Ranks, values: FloatArray) -> FloatArray:
    """Sum of each query's values [M] -> [Q]."""
    query = np.repeat(np.arange(len(ranks)), ranks.relevant)
    return np.bincount(query, values, minlength=len(ranks)).astype(np.float64)


def _per_relevant(ranks: Ranks, totals: FloatArray) -> FloatArray:
    out = np.full(len(ranks), np.nan)
    return np.divide(totals, ranks.relevant, out=out, where=ranks.relevant > 0)


def recall_at(ranks: Ranks, k: float) -> FloatArray:
    """Share of the query's relevant items with rank <= k, [Q]; NaN for none relevant (as below)."""
    return _per_relevant(ranks, _sum(ranks, (ranks.ranks <= k).astype(np.float64)))


def hit_rate_at(ranks: Ranks, k: float) -> FloatArray:
    """1 if any relevant item has rank <= k, else 0 (trec_eval's success_k), [Q]."""
    return np.where(ranks.relevant > 0, _best(ranks) <= k, np.nan)


def mrr_at(ranks: Ranks, k: float = np.inf) -> FloatArray:
    """1 / rank of the best relevant item if that is <= k, else 0 (recip_rank with a cut), [Q]."""
    best = _best(ranks)
    return np.where(ranks.relevant > 0, np.where(best <= k, 1 / best, 0.0), np.nan)


def _best(ranks: Ranks) -> FloatArray:
    best = np.full(len(ranks), np.inf)
    np.minimum.at(best, np.repeat(np.arange(len(ranks)), ranks.relevant), ranks.ranks)
    return best


def ndcg_at(ranks: Ranks, k: float) -> FloatArray:
    """DCG / ideal DCG at k, gains 0 or 1 and discount 1 / log2(1 + rank), [Q] (ndcg_cut_k)."""
    gain = np.where(ranks.ranks <= k, 1 / np.log2(1 + ranks.ranks), 0.0)
    most = int(ranks.relevant.max(initial=0))
    places = np.arange(1, most + 1)
    ideal = np.concatenate([[0.0], np.cumsum(np.where(places <= k, 1 / np.log2(1 + places), 0.0))])
    out = np.full(len(ranks), np.nan)
    best = ideal[ranks.relevant]
    return np.divide(_sum(ranks, gain), best, out=out, where=best > 0)


def map_at(ranks: Ranks, k: float) -> FloatArray:
    """Average precision at k, [Q]: sum over relevant items with rank <= k of (relevant items up to
    and with it) / rank, divided by all the query's relevant items (map_cut_k)."""
    query = np.repeat(np.arange(len(ranks)), ranks.relevant)
    order = np.lexsort((ranks.ranks, query))
    place = np.arange(len(order)) - ranks.offsets[:-1][query] + 1
    rank = ranks.ranks[order]
    precision = np.where(rank <= k, place / rank, 0.0)
    return _per_relevant(ranks, _sum(ranks, precision))
