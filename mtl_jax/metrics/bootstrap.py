"""95 % intervals by a bootstrap over users.

Rows of one user hang together, so users are drawn, not rows: a replicate draws U users out of U
with replacement and keeps all their rows as often as the user was drawn. Intervals are the
percentiles 2.5 and 97.5 of the replicates. What is compared on one set of rows is compared on the
same draws (paired). Same seed, same draws.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

import numpy as np

from mtl_jax.metrics.base import (
    AnyArray,
    FloatArray,
    Metric,
    Prepared,
    Undefined,
    ratio,
    user_index,
)

REPLICATES = 500
LEVEL = 0.95
# an interval needs this share of replicates to have a value (a rare class may miss in some)
ENOUGH = 0.9


class Entry(TypedDict, total=False):
    """One number of metrics.json: `value` null comes with `why`; so does `low` and `high` null.

    rows: the rows that enter the value; note: what was left out, if anything was.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    why: str
    note: str


def draws(n_users: int, n: int, seed: int) -> Iterator[FloatArray]:
    """Blocks [<= 64, U] of how often each replicate draws each user; n rows in all."""
    generator = np.random.default_rng(seed)
    block = int(np.clip(2**23 // max(n_users, 1), 1, 64))
    for start in range(0, n, block):
        drawn = [
            np.bincount(generator.integers(0, n_users, size=n_users), minlength=n_users)
            for _ in range(min(block, n - start))
        ]
        yield np.stack(drawn).astype(np.float64)


def replicates(
    prepared: Mapping[str, Prepared], n_users: int, n: int, seed: int
) -> dict[str, FloatArray]:
    """{name: values [n]} of all the prepared metrics on the same draws; NaN where undefined."""
    found: dict[str, list[FloatArray]] = {name: [] for name in prepared}
    for counts in draws(n_users, n, seed):
        for name, metric in prepared.items():
            found[name].append(metric(counts))
    return {name: np.concatenate([np.empty(0), *parts]) for name, parts in found.items()}


def interval(values: FloatArray, n_users: int) -> tuple[float | None, float | None, str]:
    """(low, high, why): percentiles of the replicates that have a value; None and why if few do."""
    if n_users < 2:
        return None, None, "no interval: the rows are of one user"
    if not len(values):
        return None, None, "no interval was asked for"
    good = values[np.isfinite(values)]
    if len(good) < ENOUGH * len(values) or len(good) == 0:
        return None, None, f"no interval: defined in {len(good)} of {len(values)} resamples"
    low, high = np.quantile(good, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), ""


def entry(value: float, values: FloatArray, n_users: int, rows: int, note: str = "") -> Entry:
    """The Entry of a defined value and its replicates."""
    low, high, why = interval(values, n_users)
    found = Entry(value=float(value), low=low, high=high, rows=rows)
    return _with(found, why, note)


def undefined(why: str, rows: int, note: str = "") -> Entry:
    """The Entry of a metric without a value."""
    return _with(Entry(value=None, low=None, high=None, rows=rows), why, note)


def _with(found: Entry, why: str, note: str) -> Entry:
    if why:
        found["why"] = why
    if note:
        found["note"] = note
    return found


def estimates(
    metrics: Mapping[str, Metric],
    y: AnyArray,
    prediction: AnyArray,
    users: AnyArray,
    n: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Entry]:
    """{name: Entry} of several metrics on the same draws.

    y [N], prediction [N] or [N, C], users [N] of any type. No row, or a metric without a value
    there, gives value null and why.
    """
    if len(y) == 0:
        return {name: undefined("no labelled rows", 0) for name in metrics}
    index, n_users = user_index(users)
    values: dict[str, float] = {}
    found: dict[str, Entry] = {}
    counted = {name: metric.counted(y, index, n_users) for name, metric in metrics.items()}
    for name, metric in metrics.items():
        try:
            values[name] = metric(y, prediction, users=index)
        except Undefined as error:
            found[name] = undefined(str(error), *counted[name])
    prepared = {name: metrics[name].prepare(y, prediction, index, n_users) for name in values}
    resampled = replicates(prepared, n_users, n, seed)
    for name, value in values.items():
        found[name] = entry(value, resampled[name], n_users, *counted[name])
    return {name: found[name] for name in metrics}


def estimate(
    metric: Metric,
    y: AnyArray,
    prediction: AnyArray,
    users: AnyArray,
    n: int = REPLICATES,
    seed: int = 0,
) -> Entry:
    """One metric with its interval; see `estimates`."""
    return estimates({"it": metric}, y, prediction, users, n, seed)["it"]


def combined(
    combine: Callable[..., FloatArray],
    metric: Metric,
    y: AnyArray,
    predictions: Mapping[str, AnyArray],
    users: AnyArray,
    n: int = REPLICATES,
    seed: int = 0,
    why: str = "the comparison has no value",
) -> Entry:
    """A function of one metric of several predictions, on the same draws.

    combine(**{name: values}) -> values, for values [] (whole sample) and [n] (replicates) alike;
    where it gives NaN throughout there is no value, or no interval: `why` is the reason given.
    """
    index, n_users = user_index(users)
    if len(y) == 0:
        return undefined("no labelled rows", 0)
    rows, note = metric.counted(y, index, n_users)
    try:
        whole = {key: np.float64(metric(y, p, users=index)) for key, p in predictions.items()}
    except Undefined as error:
        return undefined(str(error), rows, note)
    value = float(combine(**whole))
    if np.isnan(value):
        return undefined(why, rows, note)
    prepared = {key: metric.prepare(y, p, index, n_users) for key, p in predictions.items()}
    values = combine(**replicates(prepared, n_users, n, seed))
    found = entry(value, values, n_users, rows, note)
    if n_users > 1 and np.isnan(values).all():
        found["why"] = f"no interval: {why}"
    return found


def paired_difference(
    metric: Metric,
    y: AnyArray,
    a: AnyArray,
    b: AnyArray,
    users: AnyArray,
    n: int = REPLICATES,
    seed: int = 0,
) -> Entry:
    """metric(a) - metric(b) with its interval, both on the same draws of users."""
    return combined(lambda a, b: a - b, metric, y, {"a": a, "b": b}, users, n, seed)


def share_of_gap(
    metric: Metric,
    y: AnyArray,
    floor: AnyArray,
    ceiling: AnyArray,
    model: AnyArray,
    users: AnyArray,
    n: int = REPLICATES,
    seed: int = 0,
) -> Entry:
    """Share of the way from floor to ceiling: (m(model) - m(floor)) / (m(ceiling) - m(floor)).

    The three are predictions for the same rows. Serves metrics where less is better as well: both
    differences change sign. Where the draws do not agree that floor and ceiling differ (the sign
    of the gap changes in more than 2.5 % of them) there is no interval, and why says so.
    """
    predictions = {"floor": floor, "ceiling": ceiling, "model": model}

    def share(floor: FloatArray, ceiling: FloatArray, model: FloatArray) -> FloatArray:
        gap = np.asarray(ceiling - floor)
        if gap.ndim and min((gap > 0).mean(), (gap < 0).mean()) > (1 - LEVEL) / 2:
            return np.full(gap.shape, np.nan)
        return ratio(model - floor, gap)

    why = "floor and ceiling are not apart"
    return combined(share, metric, y, predictions, users, n, seed, why)
