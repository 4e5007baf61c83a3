"""What cleaning found: which rule touched how many rows, with examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mtl_jax.data.schema import Label


@dataclass(frozen=True)
class RuleCount:
    """One rule of cleaning and what it did.

    treatment: what became of the rows.  dropped, flagged: rows of the table; a rule that
    repairs values drops and flags none, and counts them as `repaired`.
    examples: up to three rows, as text.
    """

    rule: str
    treatment: str
    dropped: int = 0
    flagged: int = 0
    repaired: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelCount:
    """A label over one part: rows that have it, their mean, and a note if it cannot teach."""

    label: str
    part: str
    rows: int
    present: int
    mean: float
    note: str = ""


@dataclass(frozen=True)
class ColumnCount:
    """A column of items, users or events.

    what: for a categorical column how many values have codes, for numbers mean and spread, both of
        what was fitted.  empty: share of the table's rows without a value, or with an unknown one.
    """

    table: str
    column: str
    what: str
    empty: float


@dataclass(frozen=True)
class Report:
    """Everything a reader should know before trusting the prepared data."""

    rules: tuple[RuleCount, ...]
    labels: tuple[LabelCount, ...] = ()
    columns: tuple[ColumnCount, ...] = ()
    notes: tuple[str, ...] = ()

    def count(self, rule: str) -> RuleCount:
        """What that rule did; KeyError if there is no such rule."""
        for entry in self.rules:
            if entry.rule == rule:
                return entry
        raise KeyError(rule)

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON knows."""
        return {
            "rules": [{**vars(rule), "examples": list(rule.examples)} for rule in self.rules],
            "labels": [dict(vars(label)) for label in self.labels],
            "columns": [dict(vars(column)) for column in self.columns],
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """The report as a page."""
        rules = [
            f"| {r.rule} | {r.treatment} | {r.dropped} | {r.flagged} | {r.repaired} "
            f"| {'<br>'.join(e.replace('|', '/') for e in r.examples)} |"
            for r in self.rules
        ]
        labels = [
            f"| {v.label} | {v.part} | {v.rows} | {v.present} | {v.mean:.4f} | {v.note} |"
            for v in self.labels
        ]
        lines = [
            "# What preparing the data found",
            "",
            "| rule | treatment | dropped | flagged | repaired | examples |",
            "|---|---|---|---|---|---|",
            *rules,
            "",
            "| label | part | rows | with a value | mean | note |",
            "|---|---|---|---|---|---|",
            *labels,
            "",
            "| table | column | fitted | missing or unknown |",
            "|---|---|---|---|",
            *(f"| {c.table} | {c.column} | {c.what} | {c.empty:.1%} |" for c in self.columns),
            "",
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines).rstrip() + "\n"


def examples(frame: pl.DataFrame, touched: pl.Series, columns: Sequence[str]) -> tuple[str, ...]:
    """Up to three touched rows as text: their number (the first is 1) and the columns named."""
    rows = np.flatnonzero(touched.to_numpy())[:3]
    return tuple(
        f"row {row + 1}: " + ", ".join(f"{name}={frame[name][int(row)]!r}" for name in columns)
        for row in rows
    )


def count_labels(
    labels: Sequence[Label], values: dict[str, np.ndarray], part: np.ndarray
) -> tuple[LabelCount, ...]:
    """How often each label is present in each part.

    Args:
        values: label -> [N] float, NaN = missing.  part: [N], 0 train, 1 valid, 2 test.
    """
    counts = []
    for label in labels:
        for code, name in enumerate(("train", "valid", "test")):
            column = values[label.name][part == code]
            if not len(column):
                continue
            present = column[~np.isnan(column)]
            mean = float(present.astype(np.float64).mean()) if len(present) else 0.0
            counts.append(
                LabelCount(label.name, name, len(column), len(present), mean, _note(label, present))
            )
    return tuple(counts)


def _note(label: Label, present: np.ndarray) -> str:
    if not len(present):
        return "no values: a task on it has nothing to learn or be judged by here"
    if len(np.unique(present)) == 1:
        what = "one class only" if label.kind == "binary" else "one value only"
        return f"{what} ({present[0]:g}): nothing to tell apart here"
    return ""
