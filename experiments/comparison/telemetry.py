"""What a run's metrics.jsonl tells: seconds a step, task weights, how gradients agree."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.train.journal import LINES

WEIGHT, COSINE, CONFLICT = "weight/", "balance/cosine/", "balance/conflict"
POINTS = 120  # of a series, at most

Line = Mapping[str, Any]
# {"steps": [n], "weights": {task: [n]}, "conflict": [n], "cosine": {"a|b": mean}}
Telemetry = dict[str, Any]


def read(workdir: Path) -> list[Line]:
    """The lines of a run."""
    return [json.loads(line) for line in (workdir / LINES).read_text().splitlines()]


def seconds_per_step(lines: Iterable[Line], rows: int) -> float | None:
    """Median over the train lines; those that hold start-up and compilation are left out.

    rows: of a step. None where no line is left: a line after the first is needed.
    """
    found, fresh = [], True
    for line in lines:
        if line["kind"] == "resume":
            fresh = True
        if line["kind"] == "train":
            if not fresh and line.get("examples_per_second"):
                found.append(rows / line["examples_per_second"])
            fresh = False
    return float(np.median(found)) if found else None


def summary(runs: Sequence[Sequence[Line]]) -> Telemetry:
    """Means over the runs (seeds) of one combination, step by step; lists thinned to POINTS."""
    by_step: dict[int, list[Line]] = {}
    for lines in runs:
        for line in lines:
            if line["kind"] == "train":
                by_step.setdefault(line["step"], []).append(line)
    every = [line for lines in by_step.values() for line in lines]
    names = list(dict.fromkeys(name for line in every for name in line))
    steps = sorted(by_step)
    kept = [steps[i] for i in thin(len(steps))]

    def series(name: str) -> list[float | None]:
        return [mean(line.get(name) for line in by_step[step]) for step in kept]

    weights = [n for n in names if n.startswith(WEIGHT)]
    cosines = [n for n in names if n.startswith(COSINE)]
    return {
        "steps": kept,
        "weights": {n.removeprefix(WEIGHT): series(n) for n in weights},
        "conflict": series(CONFLICT) if CONFLICT in names else [],
        "mean_conflict": mean(line.get(CONFLICT) for line in every),
        "cosine": {n.removeprefix(COSINE): mean(line.get(n) for line in every) for n in cosines},
    }


def thin(n: int) -> list[int]:
    """At most POINTS of the indices 0..n-1, evenly spread, first and last among them."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, POINTS)).round())]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what was measured, None if nothing was."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return float(np.mean(known)) if known else None
