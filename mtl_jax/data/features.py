"""Label statistics as features: rates, counts and recency of users, items and their crosses.

For every key (see `mtl_jax.data.keys`) the columns are, in this order:

    <key>.log_count               log(1 + events)
    <key>.<binary>.rate           logit((positives + a p) / (rows + a)) - logit(p)
    <key>.<binary>.log_positives  log(1 + positives)
    <key>.<value>.mean            (sum - rows m) / (rows + a)
    <key>.<value>.log_count       log(1 + rows that have the label)
    <key>.age, .never             log(1 + hours since the last event); 1 if there was none (age 0)
    <key>.positive_age, .never_positive   the same for the last positive event
    user.tenure                   log(1 + hours since the first event), 0 if there was none

with a = `strength` pseudo-rows (or the key's own of `strengths`), p and m the rate and the mean of
all rows (themselves drawn with `strength` rows to one half, or the middle of the label's range).
So a key that was never seen, or is unknown (code 0), has zeros, and 1 in the flags. Multi-valued
tags give the mean over the item's tags.

Training rows see events strictly before their time (p and m too), or the other folds or blocks of
time. All other rows see the tables as they were frozen at the end of training.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mtl_jax.data.config import StatisticsConfig
from mtl_jax.data.keys import Key
from mtl_jax.data.schema import Label
from mtl_jax.data.sums import NEVER, Sums


def key_columns(
    config: StatisticsConfig,
    labels: Sequence[Label],
    key: Key,
    codes: np.ndarray,
    sums: Sums,
    priors: Sequence[np.ndarray],
    now: np.ndarray,
) -> Iterator[np.ndarray]:
    """The columns of one key, one [n] array at a time.

    Args:
        codes: [n, M].  sums: of the [n * M] codes.  priors: per label [n].  now: [n] unix seconds.
    """
    known = codes > 0
    none = ~known.any(1)
    width = codes.shape[1]

    def mean(values: np.ndarray, empty: float = 0.0) -> np.ndarray:
        """Mean over the tags that there are; `empty` where there is none."""
        if width == 1:
            return np.where(none, empty, values)
        found = np.where(known, values.reshape(codes.shape), 0).sum(1)
        return np.where(none, empty, found / np.maximum(known.sum(1), 1))

    strength = dict(config.strengths).get(key.name, config.strength)
    yield mean(np.log1p(sums.events()))
    for i, label in enumerate(labels):
        present, total = sums.label(i)
        base = priors[i] if width == 1 else np.repeat(priors[i], width)
        if label.kind == "binary":
            yield mean(logit((total + strength * base) / (present + strength)) - logit(base))
            yield mean(np.log1p(total))
        else:
            yield mean((total - present * base) / (present + strength))
            yield mean(np.log1p(present))
    if config.recency == "off":
        return
    now = now if width == 1 else np.repeat(now, width)
    times = sums.times()
    for when in (times.last, times.last_positive):
        yield mean(_log_hours(now, when))
        yield mean(when == NEVER, empty=1.0)
    if key.parts == ("user",):
        yield mean(_log_hours(now, times.first))


def column_names(key: Key, labels: tuple[Label, ...], config: StatisticsConfig) -> list[str]:
    """Names of a key's columns, in the order of `key_columns`."""
    names = ["log_count"]
    for label in labels:
        two = ("rate", "log_positives") if label.kind == "binary" else ("mean", "log_count")
        names += [f"{label.name}.{name}" for name in two]
    if config.recency != "off":
        names += ["age", "never", "positive_age", "never_positive"]
        names += ["tenure"] if key.parts == ("user",) else []
    return names


def prior(label: Label, rows: np.ndarray, total: np.ndarray, strength: float) -> np.ndarray:
    """Rate or mean of all rows, drawn with `strength` rows to the middle of the label's range."""
    if label.kind == "binary":
        centre = 0.5
    elif label.low is not None and label.high is not None:
        centre = (label.low + label.high) / 2
    else:
        centre = 0.0
    return (total + strength * centre) / (rows + strength)


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p))"""
    return np.log(p) - np.log1p(-p)


def _log_hours(now: np.ndarray, when: np.ndarray) -> np.ndarray:
    return np.where(when == NEVER, 0.0, np.log1p(np.maximum(now - when, 0) / 3600))
