"""Fixed rules, applied before the split: nothing here is fitted.

Rows of a given valid or test part are flagged (the bits of `FLAGS`), never dropped; their missing
ids become 0 (unknown) later on. All other rows are dropped by the rules that drop.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.report import Report, RuleCount, examples
from mtl_jax.data.schema import Label, RawData

# Bits of events/flag.npy. Rows with a flag are scored but feed neither histories nor statistics.
FLAGS = {
    "missing": 1,
    "impossible time": 2,
    "unknown item": 4,
    "duplicate event": 8,
    "bot": 16,  # these two by `mtl_jax.data.fitted`
    "outlier": 32,
}

_SHOWN = ("user", "item", "time")


@dataclass(frozen=True)
class Clean:
    """The cleaned tables.

    raw: its events have two more columns, `row` (int64, the row in the source, from 0) and
        `flag` (int8, the bits of FLAGS).
    """

    raw: RawData
    report: Report


def clean(raw: RawData, latest_time: int = 0) -> Clean:
    """Checks the types, then applies the rules in a fixed order.

    Args:
        latest_time: unix seconds after which a time is impossible; 0 is the clock's time now.

    Raises:
        UserError: wrong tables (see `check_tables`), or no event is left.
    """
    raw = check_tables(raw)
    rules: list[RuleCount] = []
    items = _stripped(raw.items, raw.columns.item_text, rules)
    items = _unique(items, "item", "duplicate items", rules)
    users = _unique(raw.users, "user", "duplicate users", rules)
    events = raw.events.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64), pl.lit(0, pl.Int8).alias("flag")
    )
    for label in raw.columns.labels:
        events = _label_range(events, label, rules)
    events = _drop_or_flag(events, items, latest_time, rules)
    if not events.height:
        raise UserError(f"{raw.name}: cleaning left no events:\n{Report(tuple(rules)).to_dict()}")
    known = events["user"].is_in(users["user"].implode()) | events["user"].is_null()
    rules.append(
        RuleCount(
            "users without a profile",
            "kept, profile missing",
            repaired=int((~known).sum()),
            examples=examples(events, ~known, _SHOWN),
        )
    )
    return Clean(replace(raw, events=events, items=items, users=users), Report(tuple(rules)))


def _stripped(
    items: pl.DataFrame, columns: tuple[str, ...], rules: list[RuleCount]
) -> pl.DataFrame:
    new = items.with_columns(pl.col(name).fill_null("").str.strip_chars() for name in columns)
    touched = pl.Series(np.zeros(items.height, bool))
    for name in columns:
        touched |= (items[name] != new[name]).fill_null(True)
    rules.append(
        RuleCount(
            "text with outer blanks or missing",
            "stripped; missing is empty",
            repaired=int(touched.sum()),
            examples=examples(items, touched, ("item",)),
        )
    )
    return new


def _unique(frame: pl.DataFrame, key: str, rule: str, rules: list[RuleCount]) -> pl.DataFrame:
    missing = frame[key].is_null() | (frame[key] == "").fill_null(True)
    repeated = ~frame[key].is_first_distinct()
    touched = missing | repeated
    rules.append(
        RuleCount(
            rule,
            "first kept; rows without an id dropped",
            dropped=int(touched.sum()),
            examples=examples(frame, touched, (key,)),
        )
    )
    return frame.filter(~touched)


def _label_range(events: pl.DataFrame, label: Label, rules: list[RuleCount]) -> pl.DataFrame:
    value = events[label.name].fill_nan(None)
    if label.kind == "binary":
        wrong = ~value.is_in([0.0, 1.0])
    else:
        low = -np.inf if label.low is None else label.low
        high = np.inf if label.high is None else label.high
        wrong = ~(value.is_finite() & (value >= low) & (value <= high))
    wrong = wrong.fill_null(False)
    rules.append(
        RuleCount(
            f"label {label.name} out of range",
            "the label is taken as missing, the row kept",
            repaired=int(wrong.sum()),
            examples=examples(events, wrong, (*_SHOWN, label.name)),
        )
    )
    return events.with_columns(value.set(wrong, None))


def _drop_or_flag(
    events: pl.DataFrame, items: pl.DataFrame, latest: int, rules: list[RuleCount]
) -> pl.DataFrame:
    until = latest or int(time.time())
    limit = str(latest) if latest else "the clock's time"  # the report must not tell the clock
    rows_missing = pl.any_horizontal(
        pl.col("user").is_null(),
        pl.col("user") == "",
        pl.col("item").is_null(),
        pl.col("item") == "",
        pl.col("time").is_null(),
    )
    others = ("other",) if "other" in events.columns else ()
    ids, named, catalogue = ("item", *others), (*_SHOWN, *others), items["item"].implode()
    tests: list[tuple[str, str, pl.Expr | None]] = [
        ("missing", "user, item or time missing", rows_missing),
        (
            "impossible time",
            f"time not above 0, or after {limit}",
            (pl.col("time") <= 0) | (pl.col("time") > until),
        ),
        (
            "unknown item",
            "item not in the catalogue",
            pl.any_horizontal((pl.col(c) != "") & ~pl.col(c).is_in(catalogue) for c in ids),
        ),
        (
            "duplicate event",
            f"same {', '.join(named[:-1])} and {named[-1]} as an earlier row",
            None,
        ),
    ]
    for flag, why, test in tests:
        if test is None:
            touched = _repeated(events, named)
        else:
            touched = events.select(test.fill_null(False)).to_series()
        keep = _given_later_part(events)
        rules.append(
            RuleCount(
                flag,
                f"{why}: dropped; flagged in given valid and test parts",
                dropped=int((touched & ~keep).sum()),
                flagged=int((touched & keep).sum()),
                examples=_event_examples(events, touched),
            )
        )
        if touched.any():
            events = events.with_columns(
                (pl.col("flag") + touched.cast(pl.Int8) * FLAGS[flag]).cast(pl.Int8)
            ).filter(~touched | keep)
    return events


def _repeated(events: pl.DataFrame, named: tuple[str, ...]) -> pl.Series:
    """Rows that equal an earlier one in the columns named; only rows of equal hash are compared."""
    hashes = events.select(pl.struct(named).hash()).to_series().to_numpy()
    in_order = np.sort(hashes)
    twice = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    touched = np.zeros(events.height, bool)
    rows = np.flatnonzero(np.isin(hashes, twice)) if len(twice) else np.zeros(0, np.int64)
    again = events.select(named)[rows].select(~pl.struct(named).is_first_distinct())
    touched[rows] = again.to_series().to_numpy()
    return pl.Series(touched)


def _given_later_part(events: pl.DataFrame) -> pl.Series:
    if "split" in events.columns:
        return events["split"] > 0
    return pl.Series(np.zeros(events.height, bool))


def _event_examples(events: pl.DataFrame, touched: pl.Series) -> tuple[str, ...]:
    """Rows are numbered as in the source, although earlier rules have dropped some."""
    first = events.filter(touched).head(3)
    return tuple(
        f"row {row + 1}: user={user!r}, item={item!r}, time={at!r}"
        for row, user, item, at in first.select("row", *_SHOWN).iter_rows()
    )
