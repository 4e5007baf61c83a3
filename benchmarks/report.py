"""Rows of a benchmark as JSON and as a Markdown table, with the bounds that were wanted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.spread import Spread

Kind = Literal["speedup", "overhead", "growth", "share"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Row:
    """One number: `kind` says what is divided by what.

    speedup: the peer's time over ours. overhead: ours over our baseline. growth: of a time from the
    smallest to the largest setting. share: of a part in the whole. missing: why there is none.
    """

    bench: str
    case: str
    kind: Kind
    value: Spread | None
    wanted: float | None = None
    missing: str = ""
    floor_ratio: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the wanted bound; None without one."""
        if self.wanted is None or self.value is None:
            return None
        m = self.value.median
        return m >= self.wanted if self.kind == "speedup" else m <= self.wanted

    def as_dict(self) -> dict[str, Any]:
        """Flat, as it is written."""
        found: dict[str, Any] = {"bench": self.bench, "case": self.case}
        if self.value is not None:
            v = asdict(self.value)
            found |= {self.kind: v["median"], "low": v["low"], "high": v["high"], "n": v["n"]}
        if self.wanted is not None:
            found |= {"wanted": self.wanted, "met": self.met}
        if self.missing:
            found["missing"] = self.missing
        return {**found, "floor_ratio": self.floor_ratio, **self.more}


def table(rows: Sequence[Row]) -> str:
    """Markdown: case, what, median (10 - 90 %), wanted, met, times the floor."""
    lines = [
        "| case | what | median | 10 - 90 % | wanted | met | ours / floor | ours | other |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        sign = ">=" if r.kind == "speedup" else "<="
        wanted = "" if r.wanted is None else f"{sign} {r.wanted:.3g}"
        met = {None: "", True: "yes", False: "**no**"}[r.met]
        floor = "" if r.floor_ratio is None else f"{r.floor_ratio:.2f}"
        if r.value is None:
            shown = [f"none: {r.missing}", ""]
        else:
            shown = [f"{r.value.median:.3g}", f"{r.value.low:.3g} - {r.value.high:.3g}"]
        times = [f"{r.more[k]:.4g} ms" if k in r.more else "" for k in ("ours_ms", "base_ms")]
        lines.append("| " + " | ".join([r.case, r.kind, *shown, wanted, met, floor, *times]) + " |")
    return "\n".join(lines) + "\n"


def write(
    folder: Path, bench: str, head: Mapping[str, Any], rows: Sequence[Row], text: str
) -> None:
    """DIR/<bench>.json and DIR/<bench>.md."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**head, "rows": [r.as_dict() for r in rows]}
    (folder / f"{bench}.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / f"{bench}.md").write_text(text)
