"""How numbers are written, on the page and in the terminal alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Record = Mapping[str, Any]
DASH = "-"
TWIN_NAMES = {"same_width": "same width", "same_parameters": "same number of parameters"}
MARKS = {"better": "▲", "worse": "▼", "": ""}


def value(x: float | None) -> str:
    """Four decimals."""
    return DASH if x is None else f"{x:.4f}"


def signed(x: float | None) -> str:
    """Four decimals with a sign."""
    return DASH if x is None else f"{x:+.4f}"


def percent(x: float | None) -> str:
    """Two decimals with a sign, of a number in percent."""
    return DASH if x is None else f"{x:+.2f} %"


def span(low: float | None, high: float | None, write: Any = signed) -> str:
    """An interval, or a dash."""
    return DASH if low is None or high is None else f"{write(low)} to {write(high)}"


def probability(p: float | None) -> str:
    """Three decimals; below .001 it says so."""
    if p is None:
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def milliseconds(seconds: float | None) -> str:
    """Of a step."""
    return DASH if seconds is None else f"{1000 * seconds:.2f}"


def ratio(x: float | None) -> str:
    """Two decimals."""
    return DASH if x is None else f"{x:.2f}"


def combination(record: Record) -> str:
    """How a combination is named."""
    return f"{record['trunk']} · {record['balance']}"


def of_kind(records: Sequence[Record], kind: str, **wanted: str) -> list[Record]:
    """Records of a kind whose fields are as wanted."""
    return [r for r in records if r["kind"] == kind and all(r[k] == v for k, v in wanted.items())]


ROW_HEADS = (
    "combination", "task", "metric", "mean", "twin", "difference",
    "95 % over seeds", "p", "95 % over users", "p", "p (Holm)", "",
)  # fmt: skip

# Of these; the twin's mean and the single p's are in the page.
IN_TERMINAL = (0, 1, 2, 3, 5, 6, 8, 10, 11)


def row_cells(row: Record) -> tuple[str, ...]:
    """A task of a combination against its twin."""
    return (
        combination(row),
        row["task"],
        row["metric"],
        value(row["value"]),
        value(row["twin_value"]),
        signed(row["difference"]),
        span(row["seeds_low"], row["seeds_high"]),
        probability(row["seeds_p"]),
        span(row["users_low"], row["users_high"]),
        probability(row["users_p"]),
        probability(row["p_holm"]),
        f"{MARKS[row['verdict']]} {row['verdict']}".strip(),
    )


SUMMARY_HEADS = (
    "combination", "Δm", "95 % over seeds", "better", "negative transfer",
    "ms a step", "ratio", "parameters",
)  # fmt: skip


def summary_cells(summary: Record, cost: Record) -> tuple[str, ...]:
    """A combination against its twins."""
    return (
        combination(summary),
        percent(summary["delta_m"]),
        span(summary["delta_m_low"], summary["delta_m_high"], percent),
        ", ".join(summary["better"]) or DASH,
        ", ".join(summary["negative_transfer"]) or DASH,
        milliseconds(cost["seconds_per_step"]),
        ratio(cost["ratio"]),
        f"{cost['parameters']:,}",
    )


def tables(records: Sequence[Record]) -> list[Table]:
    """For the terminal: against each twin, by task and in sum."""
    head = of_kind(records, "comparison")[0]
    found = []
    for which, name in TWIN_NAMES.items():
        rows = of_kind(records, "row", twin=which)
        if not rows:
            continue
        title = f"{head['split']}: against single-task models of the {name}"
        by_task = Table(title=title)
        for column in (ROW_HEADS[i] for i in IN_TERMINAL):
            left = column in ("combination", "task", "metric", "")
            by_task.add_column(column, justify="left" if left else "right")
        for i, row in enumerate(rows):
            if i and combination(row) != combination(rows[i - 1]):
                by_task.add_section()
            style = {"better": "green", "worse": "red", "": ""}[row["verdict"]]
            cells = row_cells(row)
            by_task.add_row(*(cells[i] for i in IN_TERMINAL), style=style)
        in_sum = Table(title=f"Δm and cost, {name}")
        for column in SUMMARY_HEADS:
            in_sum.add_column(column, justify="left" if column == "combination" else "right")
        for summary in of_kind(records, "summary", twin=which):
            cost = _cost(records, summary)
            in_sum.add_row(*summary_cells(summary, cost))
        found += [by_task, in_sum]
    return found


def _cost(records: Sequence[Record], summary: Record) -> Record:
    return of_kind(records, "cost", trunk=summary["trunk"], balance=summary["balance"])[0]
