"""The worker that builds batches with the project's own stream.

`python -m benchmarks.pipeline_ours`, started by `benchmarks.pipeline`.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import peak
from benchmarks.pipeline_world import open_stream, summary
from benchmarks.turns import serve
from mtl_jax.data.pipeline import TrainStream, prefetched

STEPS = 1_000_000  # more than anybody asks for
STATE: dict[str, Any] = {}


def open_world(folder: str, events: int) -> dict[str, Any]:
    """Sizes of what is built."""
    stream: TrainStream = open_stream(folder, events)
    STATE["stream"] = stream
    shape = stream.plan.shapes[0]
    return {"items": stream.assembler.data.schema.n_items, **dataclasses.asdict(shape)}


def look(step: int) -> dict[str, float]:
    """Summary of a batch."""
    b = STATE["stream"].batch(step)
    sums = {
        "history": float((b["hist"] > 0).sum()),
        "age": float(b["hist_age"].astype(np.float64).sum()),
        "stats": float(b["stats_user"].astype(np.float64).sum()),
        "clicks": float(b["label/click"].sum()),
        "values": float(b["hist_value"].astype(np.float64).sum()),
        "users": len(np.unique(b["user"])),
    }
    return summary(b["items/id"], b["text/segments"], sums)


def prepare(workers: int) -> None:
    """Makes the iterator that `run` draws from; 0 workers: built where they are asked for."""
    stream: TrainStream = STATE["stream"]
    STATE[f"batches-{workers}"] = _batches(stream, workers)


def _batches(stream: TrainStream, workers: int) -> Iterator[Any]:
    if not workers:
        return (stream.batch(k) for k in range(STEPS))
    config = dataclasses.replace(stream.assembler.config, workers=workers)
    assembler = dataclasses.replace(stream.assembler, config=config)
    return prefetched(dataclasses.replace(stream, assembler=assembler), 0, STEPS)


def run(workers: int, steps: int) -> float:
    """Seconds for so many batches."""
    batches = STATE[f"batches-{workers}"]
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return time.perf_counter() - start


if __name__ == "__main__":
    serve({"open": open_world, "look": look, "prepare": prepare, "run": run, "peak": peak.of_jax})
