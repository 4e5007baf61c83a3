"""Drawings as SVG text, inline in a page: axes, lines, points, coloured squares.

Colours are classes (`c0`..`c9`, `grid`, `axis`, `good`, `bad`) that the page's style sheet fills in
for light and dark.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = 10


def shapes() -> tuple[str, ...]:
    """Outlines of markers of radius 1 around the origin."""
    return (
        "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0 -1,0Z",
        "M-.9,-.9H.9V.9H-.9Z",
        "M0,-1.2L1.1,.9H-1.1Z",
        "M0,-1.3L1.3,0L0,1.3L-1.3,0Z",
        "M0,1.2L1.1,-.9H-1.1Z",
        "M-.4,-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    )


@dataclass(frozen=True)
class Scale:
    """From values low..high to places start..stop; `flip` lets the values fall."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self, n: int = 5) -> list[float]:
        """Round numbers within low..high, about n of them."""
        return round_numbers(self.low, self.high, n)


def round_numbers(low: float, high: float, n: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within low..high."""
    raw = (high - low) / max(n, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def room(values: Iterable[float], share: float = 0.08) -> tuple[float, float]:
    """Least and greatest value with room around them; never empty."""
    known = list(values)
    low, high = min(known), max(known)
    around = (high - low) * share or max(abs(high) * 0.05, 1e-6)
    return low - around, high + around


def number(x: float) -> str:
    """A tick's label."""
    return f"{x:.6g}" if abs(x) < 1e5 else f"{x:.0e}"


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element; `class_` is class, and `_` in a name is `-`."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>"


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: float, y: float, words: str, **attributes: object) -> str:
    """Words at a place."""
    return tag("text", escape(words), x=x, y=y, **attributes)


def drawing(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """The whole; `label` is for those who do not see it."""
    return tag(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=label,
    )


def axes(x: Scale, y: Scale, x_name: str, y_name: str, n: tuple[int, int] = (5, 5)) -> list[str]:
    """Grid lines with numbers, and the names of both axes."""
    left, right = sorted((x.start, x.stop))
    top, bottom = sorted((y.start, y.stop))
    parts = []
    for value in y.ticks(n[1]):
        at = y(value)
        parts.append(tag("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(text(left - 6, at + 3.5, number(value), text_anchor="end"))
    for value in x.ticks(n[0]):
        at = x(value)
        parts.append(tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
        parts.append(text(at, bottom + 15, number(value), text_anchor="middle"))
    parts.append(
        tag("rect", x=left, y=top, width=right - left, height=bottom - top, class_="frame")
    )
    if x_name:
        parts.append(text((left + right) / 2, bottom + 32, x_name, text_anchor="middle"))
    if y_name:
        parts.append(text(left, top - 7, y_name))
    return parts


def line(
    x: Scale, y: Scale, xs: Sequence[float], ys: Sequence[float | None], colour: int, name: str
) -> str:
    """A line, broken where a value is missing; a value that stands alone is a dot."""
    pieces: list[list[str]] = [[]]
    for at, value in zip(xs, ys, strict=True):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{x(at):.1f},{y(value):.1f}")
    drawn = ""
    for piece in pieces:
        if len(piece) == 1:
            cx, cy = piece[0].split(",")
            drawn += tag("circle", title(name), cx=cx, cy=cy, r="2", class_=f"fill c{colour}")
        elif piece:
            points = " ".join(piece)
            drawn += tag("polyline", title(name), points=points, class_=f"line c{colour}")
    return drawn


def marker(x: float, y: float, shape: int, colour: int, name: str, size: float = 6.0) -> str:
    """A point; its name shows under the pointer."""
    outline = shapes()[shape % len(shapes())]
    place = f"translate({x:.1f} {y:.1f}) scale({size:g})"
    return tag("path", title(name), d=outline, transform=place, class_=f"fill mark c{colour}")


def bar(x1: float, x2: float, y1: float, y2: float, colour: int) -> str:
    """A straight line: an interval."""
    return tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=f"bar c{colour}")


def title(words: str) -> str:
    """What shows under the pointer."""
    return tag("title", escape(words)) if words else ""
