"""What the kernels of a step take on a GPU."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


def of_step(step: Callable[[], Any]) -> list[list[Any]]:
    """[kernel, its milliseconds, its calls] of one step, the slowest first; none on a CPU."""
    found: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
    for line in (line for plane in planes if "GPU" in plane.name for line in plane.lines):
        for event in line.events if line.name.startswith("Stream") else ():
            row = found.setdefault(event.name, [event.name, 0.0, 0])
            row[1] += event.duration_ns / 1e6
            row[2] += 1
    return sorted(found.values(), key=lambda row: -row[1])
