"""The worker that ranks as `mtl_jax.train.evaluation.next_item_ranks` does."""

import time
from typing import Any

import numpy as np

from benchmarks.evaluation_data import BLOCK, Ranking, draw
from benchmarks.peak import of_jax
from benchmarks.turns import serve
from mtl_jax.metrics.ranks import blocked_ranks

_open: list[Ranking] = []


def open_world(queries: int, items: int, width: int) -> dict[str, Any]:
    """Draws; the operations of its product, and all ranks."""
    _open[:] = [draw(queries, items, width)]
    return {"operations": _open[0].operations, "ranks": ranks().tolist()}


def ranks() -> Any:
    """Ranks [Q] of the targets among all items."""
    (r,) = _open
    real = np.arange(len(r.keys)) > 0
    found = blocked_ranks(
        lambda s: r.queries[s] @ r.keys.T + r.bias, r.targets, candidates=real, block=BLOCK
    )
    return found.ranks


def prepare(name: str) -> dict[str, Any]:
    """Seconds of a pass."""
    run(name, 1)
    return {"seconds": run(name, 1)}


def run(name: str, steps: int) -> float:
    """Seconds of `steps` passes over all queries; "product": the scores and nothing more."""
    (r,) = _open
    began = time.perf_counter()
    for _ in range(steps):
        if name == "product":
            for start in range(0, len(r.queries), BLOCK):
                r.queries[start : start + BLOCK] @ r.keys.T
        else:
            ranks()
    return time.perf_counter() - began


if __name__ == "__main__":
    serve({"open": open_world, "prepare": prepare, "run": run, "peak": of_jax})
