"""metrics.json as a rich table."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from mtl_jax.metrics.bootstrap import Entry

# {split: {task: {slice: {metric: Entry}}}}
Results = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Entry]]]]


def metrics_table(
    results: Results,
    title: str = "",
    floor: Results | None = None,
    ceiling: Results | None = None,
    metrics: Sequence[str] | None = None,
) -> Table:
    """A row per split, task, slice and metric: value, 95 % interval, rows, floor, ceiling, share.

    floor, ceiling: results of the same layout; their columns, and the share of the way from floor
    to ceiling where both are there, are shown only if given. metrics: the names to show, None for
    all. An undefined value is shown as a dash with its reason.
    """
    table = Table(title=title or None)
    for head in ("split", "task", "slice", "metric"):
        table.add_column(head)
    others = {"floor": floor, "ceiling": ceiling}
    shown = {name: other for name, other in others.items() if other is not None}
    share = ["share"] if len(shown) == 2 else []
    for head in ("value", "95 % interval", "rows", *shown, *share):
        table.add_column(head, justify="right")
    for split, tasks in results.items():
        for task, slices in tasks.items():
            for slice_, entries in slices.items():
                for metric in entries if metrics is None else metrics:
                    if metric not in entries:
                        continue
                    path = (split, task, slice_, metric)
                    marks = [value_at(other, *path) for other in shown.values()]
                    cells = [number(mark) for mark in marks]
                    if share:
                        cells.append(way(entries[metric]["value"], *marks))
                    table.add_row(*path, *entry_cells(entries[metric]), *cells)
            table.add_section()
    return table


def entry_cells(entry: Entry) -> tuple[str, str, str]:
    """(value, interval or the reason why there is none, rows)."""
    low, high = entry["low"], entry["high"]
    if low is None or high is None:
        return number(entry["value"]), entry.get("why", "-"), f"{entry['rows']:,}"
    return number(entry["value"]), f"{low:.4f} to {high:.4f}", f"{entry['rows']:,}"


def value_at(
    results: Results | None, split: str, task: str, slice_: str, metric: str
) -> float | None:
    """The value at that place, None if it is not there."""
    entries = (results or {}).get(split, {}).get(task, {}).get(slice_, {})
    return entries[metric]["value"] if metric in entries else None


def number(value: float | None) -> str:
    """Four decimals, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def way(value: float | None, floor: float | None, ceiling: float | None) -> str:
    """Share of the way from floor to ceiling, or a dash."""
    if value is None or floor is None or ceiling is None or floor == ceiling:
        return "-"
    return f"{(value - floor) / (ceiling - floor):.2f}"
