"""The page's plots, each from records alone. A plot is HTML: a drawing and its legend."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.comparison import show, svg
from experiments.comparison.svg import Scale, tag

Record = Mapping[str, Any]


def colours(records: Sequence[Record]) -> dict[str, int]:
    """A colour for each balancer."""
    names = dict.fromkeys(r["balance"] for r in show.of_kind(records, "cost"))
    return {name: i % svg.COLOURS for i, name in enumerate(names)}


def outlines(records: Sequence[Record]) -> dict[str, int]:
    """A marker for each trunk."""
    names = dict.fromkeys(r["trunk"] for r in show.of_kind(records, "cost"))
    return {name: i for i, name in enumerate(names)}


def legend(entries: Sequence[tuple[str, int, int]]) -> str:
    """(name, marker, colour) in a row that breaks where it must."""
    items = ""
    for name, shape, colour in entries:
        mark = svg.drawing(14, 14, [svg.marker(7, 7, shape, colour, "", 5)], "")
        items += f'<span class="key">{mark}{escape(name)}</span>'
    return f'<p class="legend">{items}</p>'


def trade_off(records: Sequence[Record], which: str) -> str:
    """Two tasks' metrics of every combination with their intervals; dashed: the twins'."""
    head = show.of_kind(records, "comparison")[0]
    rows = show.of_kind(records, "row", twin=which)
    names = [t for t in head["axes"] if any(r["task"] == t for r in rows)]
    if len(names) < 2:
        return ""
    on = [[r for r in rows if r["task"] == name] for name in names]
    x, y = (
        _axis(found, *ends) for found, ends in zip(on, ((64.0, 600.0), (330.0, 24.0)), strict=True)
    )
    labels = [
        f"{name}: {found[0]['metric']}"
        + ("" if found[0]["higher_is_better"] else " (lower is better: axis reversed)")
        for name, found in zip(names, on, strict=True)
    ]
    parts = svg.axes(x, y, labels[0], labels[1])
    for value in {r["twin_value"] for r in on[0]}:
        parts.append(tag("line", x1=x(value), x2=x(value), y1=24, y2=330, class_="twin"))
    for value in {r["twin_value"] for r in on[1]}:
        parts.append(tag("line", x1=64, x2=600, y1=y(value), y2=y(value), class_="twin"))
    colour, outline = colours(records), outlines(records)
    for a, b in zip(*on, strict=True):
        at, over = x(a["value"]), y(b["value"])
        shade = colour[a["balance"]]
        if a["value_low"] is not None:
            start, stop = x(a["value_low"]), x(a["value_high"])
            parts.append(svg.bar(start, stop, over, over, shade))
        if b["value_low"] is not None:
            start, stop = y(b["value_low"]), y(b["value_high"])
            parts.append(svg.bar(at, at, start, stop, shade))
        told = f"{show.combination(a)}: {show.value(a['value'])}, {show.value(b['value'])}"
        parts.append(svg.marker(at, over, outline[a["trunk"]], shade, told))
    keys = [(show.combination(a), outline[a["trunk"]], colour[a["balance"]]) for a in on[0]]
    return svg.drawing(620, 370, parts, f"{names[0]} against {names[1]}") + legend(keys)


def _axis(rows: Sequence[Record], start: float, stop: float) -> Scale:
    """Room for means, intervals and twins; better is always right and up."""
    fields = ("value", "value_low", "value_high", "twin_value")
    low, high = svg.room(r[f] for r in rows for f in fields if r[f] is not None)
    return (
        Scale(low, high, start, stop)
        if rows[0]["higher_is_better"]
        else Scale(low, high, stop, start)
    )


def weights(records: Sequence[Record]) -> str:
    """Every task's weight over the steps, a panel for each combination."""
    found = [r for r in show.of_kind(records, "telemetry") if r["weights"]]
    tasks = list(dict.fromkeys(task for r in found for task in r["weights"]))
    panels = "".join(_weights(r, tasks) for r in found)
    keys = [(task, 0, i % svg.COLOURS) for i, task in enumerate(tasks)]
    return f'<div class="panels">{panels}</div>{legend(keys)}' if found else ""


def _weights(record: Record, tasks: Sequence[str]) -> str:
    known = [v for series in record["weights"].values() for v in series if v is not None]
    if not known:
        return ""
    x = _steps(record["steps"], 300.0)
    low, high = svg.room([0.0, *known])
    y = Scale(min(0.0, low) if min(known) < 0 else 0.0, high, 150.0, 26.0)
    parts = svg.axes(x, y, "step", show.combination(record), (4, 4))
    for i, task in enumerate(tasks):
        if task in record["weights"]:
            series = record["weights"][task]
            parts.append(svg.line(x, y, record["steps"], series, i % svg.COLOURS, task))
    return svg.drawing(312, 190, parts, f"weights of {show.combination(record)}")


def conflicts(records: Sequence[Record]) -> str:
    """The share of pairs of tasks whose gradients oppose, over the steps."""
    found = [r for r in show.of_kind(records, "telemetry") if r["conflict"]]
    if not found:
        return ""
    shade = {show.combination(r): i % svg.COLOURS for i, r in enumerate(found)}
    steps = [step for r in found for step in r["steps"]]
    x, y = _steps(steps, 600.0), Scale(0.0, 1.0, 230.0, 24.0)
    parts = svg.axes(x, y, "step", "share of pairs with a negative cosine")
    for r in found:
        name = show.combination(r)
        parts.append(svg.line(x, y, r["steps"], r["conflict"], shade[name], name))
    keys = [(name, 0, colour) for name, colour in shade.items()]
    return svg.drawing(620, 272, parts, "conflicts over the steps") + legend(keys)


def _steps(steps: Sequence[int], stop: float) -> Scale:
    low, high = min(steps), max(steps)
    return Scale(low, high if high > low else low + 1, 50.0 if stop < 600 else 64.0, stop)


def cosines(records: Sequence[Record]) -> str:
    """Mean cosine of each pair of tasks' gradients, a square of squares for each combination."""
    found = [r for r in show.of_kind(records, "telemetry") if r["cosine"]]
    panels = "".join(_cosines(r) for r in found)
    return f'<div class="panels">{panels}</div>' if found else ""


def _cosines(record: Record) -> str:
    pairs = {tuple(key.split("|", 1)): value for key, value in record["cosine"].items()}
    tasks = list(dict.fromkeys(name for pair in pairs for name in pair))
    side, left, top = 46.0, 96.0, 28.0
    parts = [svg.text(left, 14, show.combination(record))]
    for i, a in enumerate(tasks):
        parts.append(svg.text(left - 6, top + (i + 0.6) * side, a[:14], text_anchor="end"))
        below = top + len(tasks) * side + 12
        at = left + (i + 0.5) * side
        turned = f"rotate(-35 {at:.0f} {below:.0f})"
        parts.append(svg.text(at, below, a[:14], text_anchor="end", transform=turned))
        for j, b in enumerate(tasks):
            value = 1.0 if a == b else pairs.get((a, b), pairs.get((b, a)))
            parts.append(_square(left + j * side, top + i * side, side, value, f"{a}, {b}"))
    width = left + len(tasks) * side + 8
    return svg.drawing(width, top + len(tasks) * side + 66, parts, "mean cosines of gradients")


def _square(x: float, y: float, side: float, value: float | None, name: str) -> str:
    if value is None:
        return svg.text(x + side / 2, y + side * 0.6, show.DASH, text_anchor="middle")
    place = {"x": x + 1, "y": y + 1, "width": side - 2, "height": side - 2, "rx": 3}
    colour = "good" if value >= 0 else "bad"
    words = svg.title(f"{name}: {value:+.3f}")
    opacity = f"{min(abs(value), 1) * 0.75:.2f}"
    square = tag("rect", words, **place, class_=f"fill {colour}", fill_opacity=opacity)
    return square + svg.text(x + side / 2, y + side * 0.6, f"{value:+.2f}", text_anchor="middle")
