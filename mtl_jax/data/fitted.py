"""Rules that are fitted on training rows: bots by their rate, labels far out.

They come after the split. Training rows they touch are dropped or cut; valid and test rows are
flagged and stay as they are.
"""

from dataclasses import dataclass, replace

import numpy as np

from mtl_jax.data.clean import FLAGS
from mtl_jax.data.config import FittedConfig
from mtl_jax.data.report import RuleCount
from mtl_jax.data.schema import Label
from mtl_jax.data.tables import Events
from mtl_jax.data.vocab import tukey_fences

HOUR = 3600  # seconds


@dataclass(frozen=True)
class Fitted:
    """events: flags set, labels cut.  dropped [N]: training rows that must go."""

    events: Events
    dropped: np.ndarray
    rules: tuple[RuleCount, ...]
    notes: tuple[str, ...]


def fitted_rules(
    events: Events, part: np.ndarray, labels: tuple[Label, ...], config: FittedConfig
) -> Fitted:
    """Applies the rules to events sorted by time; part [N] as in `mtl_jax.data.split`."""
    train = part == 0
    busiest = most_in_an_hour(events.user[train], events.time[train], int(events.user.max()) + 1)
    rate = int(busiest.max(initial=0))
    notes = (f"busiest user in training: {rate} events within one hour",) if rate else ()
    bots = (busiest >= config.bot_events) if config.bot_events else np.zeros(len(busiest), bool)
    of_bot = bots[events.user]
    flag = np.where(of_bot & ~train, events.flag | FLAGS["bot"], events.flag)
    rules = [
        RuleCount(
            "bots",
            f"{config.bot_events or 'any number of'} training events within an hour "
            f"({'off' if not config.bot_events else f'{int(bots.sum())} users'}): training rows "
            "dropped, others flagged",
            dropped=int((of_bot & train).sum()),
            flagged=int((of_bot & ~train).sum()),
            examples=_examples(events, of_bot),
        )
    ]
    values = dict(events.labels)
    for label in labels:
        if label.kind == "binary" or None not in (label.low, label.high):
            continue
        value = values[label.name]
        seen = value[train & ~of_bot & np.isfinite(value)].astype(np.float64)
        low, high = tukey_fences(seen, config.outlier_fences)
        if low is None or high is None:
            continue
        out = np.isfinite(value) & ((value < low) | (value > high))
        values[label.name] = np.where(train, np.clip(value, low, high), value).astype(np.float32)
        flag = np.where(out & ~train, flag | FLAGS["outlier"], flag)
        rules.append(
            RuleCount(
                f"label {label.name} far out",
                f"below {low:.4g} or above {high:.4g}: training rows cut to it, others flagged",
                flagged=int((out & ~train).sum()),
                repaired=int((out & train).sum()),
                examples=_examples(events, out),
            )
        )
    changed = replace(events, flag=flag.astype(np.int8), labels=values)
    return Fitted(changed, of_bot & train, tuple(rules), notes)


def most_in_an_hour(user: np.ndarray, time: np.ndarray, n_users: int) -> np.ndarray:
    """[n_users] the most events of a user within any 3,600 seconds; 0 for user 0, the unknown.

    Args:
        user, time: [N] of events sorted by time.
    """
    order = np.argsort(user, kind="stable")
    u, t = user[order].astype(np.int64), time[order]
    low, span = int(t.min(initial=0)), int(np.ptp(t)) + HOUR + 1 if len(t) else 1
    keys = u * span + (t - low)
    first = np.searchsorted(keys, np.maximum(keys - HOUR + 1, u * span), side="left")
    found = np.zeros(n_users, np.int64)
    np.maximum.at(found, u, np.arange(len(u)) - first + 1)
    found[0] = 0
    return found


def _examples(events: Events, touched: np.ndarray) -> tuple[str, ...]:
    rows = np.flatnonzero(touched)[:3]
    shown = zip(
        events.row[rows],
        events.frame["user"].gather(rows),
        events.frame["item"].gather(rows),
        events.time[rows],
        strict=True,
    )
    return tuple(
        f"row {row + 1}: user={user!r}, item={item!r}, time={at}" for row, user, item, at in shown
    )
