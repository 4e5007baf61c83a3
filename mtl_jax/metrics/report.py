"""A task's metrics in slices, in the layout of metrics.json.

metrics.json is {split: {task: {slice: {metric: Entry}}}}; the functions here give
{slice: {metric: Entry}}. No NaN is ever written: an undefined value is null with a "why".
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_jax.metrics.base import AnyArray, mean_of, user_index
from mtl_jax.metrics.bootstrap import (
    REPLICATES,
    Entry,
    entry,
    estimates,
    replicates,
    undefined,
)
from mtl_jax.metrics.ranks import Ranks, as_ranks
from mtl_jax.metrics.registry import METRICS, RANKING

Slices = dict[str, dict[str, Entry]]
KS = (5, 10, 20)


def with_all(slices: Mapping[str, AnyArray] | None, n: int) -> dict[str, AnyArray]:
    """The slices with "all" first; ValueError for a mask that is not bool [n]."""
    masks: dict[str, AnyArray] = {"all": np.ones(n, dtype=bool), **(slices or {})}
    for name, mask in masks.items():
        if np.asarray(mask).dtype != bool or np.shape(mask) != (n,):
            raise ValueError(f"slice {name} is no bool mask of the {n} rows")
    return masks


def evaluate_task(
    kind: str,
    y: AnyArray,
    prediction: AnyArray,
    users: AnyArray,
    slices: Mapping[str, AnyArray] | None = None,
    n: int = REPLICATES,
    seed: int = 0,
) -> Slices:
    """{slice: {metric: Entry}} of a task whose kind is a key of METRICS.

    y [N] ([N, C] of "multilabel"), NaN = no label (a row without any is left out); prediction:
    probabilities [N], probabilities [N, C], or values [N]; users [N]; slices {name: bool [N]},
    "all" is added.
    """
    labels, prediction, users = np.asarray(y), np.asarray(prediction), np.asarray(users)
    known = ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, dtype=bool)
    present = known.reshape(len(labels), -1).any(axis=1)
    found: Slices = {}
    for name, mask in with_all(slices, len(labels)).items():
        rows = np.flatnonzero(mask & present)
        found[name] = estimates(METRICS[kind], labels[rows], prediction[rows], users[rows], n, seed)
    return found


def evaluate_ranking(
    ranks: Ranks | AnyArray,
    users: AnyArray,
    slices: Mapping[str, AnyArray] | None = None,
    ks: Sequence[int] = KS,
    n: int = REPLICATES,
    seed: int = 0,
) -> Slices:
    """{slice: {"recall@10": Entry, ..., "mrr": Entry}} of full ranks.

    ranks: [Q] of one relevant item per query, or Ranks; users [Q]; slices {name: bool [Q]}. Each
    value is a mean over queries; rows counts the queries with a relevant item.
    """
    ranks = as_ranks(ranks)
    values = {f"{m}@{k}": at(ranks, k) for k in ks for m, at in RANKING.items()}
    values["mrr"] = RANKING["mrr"](ranks, np.inf)
    users = np.asarray(users)
    found: Slices = {}
    for name, mask in with_all(slices, len(ranks)).items():
        rows = np.flatnonzero(mask & (ranks.relevant > 0))
        kept = {key: value[rows] for key, value in values.items()}
        found[name] = mean_entries(kept, users[rows], n, seed)
    return found


def mean_entries(
    values: Mapping[str, AnyArray], users: AnyArray, n: int = REPLICATES, seed: int = 0
) -> dict[str, Entry]:
    """{name: Entry} of the means of per-query values [Q], all on the same draws of users [Q]."""
    rows = len(users)
    if rows == 0:
        return {name: undefined("no queries with a relevant item", 0) for name in values}
    index, n_users = user_index(users)
    queries = np.bincount(index, minlength=n_users).astype(np.float64)
    tables = {
        name: np.stack([queries, np.bincount(index, value, minlength=n_users)], axis=-1)
        for name, value in values.items()
    }
    prepared = {name: (lambda c, t=table: mean_of(c @ t)) for name, table in tables.items()}
    resampled = replicates(prepared, n_users, n, seed)
    return {
        name: entry(float(np.mean(value)), resampled[name], n_users, rows)
        for name, value in values.items()
    }
