"""The worker that ranks in torch, by counting and by topk."""

import time
from typing import Any

import torch

from benchmarks.evaluation_data import BLOCK, draw
from benchmarks.machine import versions
from benchmarks.peak import of_torch
from benchmarks.turns import serve

CORES = torch.get_num_threads()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOP = 100
_open: dict[str, Any] = {}


def open_world(queries: int, items: int, width: int) -> list[float]:
    """Draws; all ranks by counting."""
    r = draw(queries, items, width)
    for name in ("queries", "keys", "bias", "targets"):
        _open[name] = torch.from_numpy(getattr(r, name)).to(DEVICE)
    found: list[float] = ranks().tolist()
    return found


def scores(start: int) -> Any:
    """Of a block of queries [b, N]; item 0 is no candidate."""
    found = torch.addmm(_open["bias"], _open["queries"][start : start + BLOCK], _open["keys"].T)
    found[:, 0] = -torch.inf
    return found


def ranks() -> Any:
    """1 + items above + half of the others at the same score [Q]."""
    found = []
    for start in range(0, len(_open["queries"]), BLOCK):
        block = scores(start)
        own = block.gather(1, _open["targets"][start : start + BLOCK, None])
        found.append((block > own).sum(1) + ((block == own).sum(1) + 1) / 2)
    return torch.cat(found)


def topk() -> Any:
    """The best `TOP` items of each query [Q, TOP]."""
    n = len(_open["queries"])
    return torch.cat([scores(s).topk(TOP).indices for s in range(0, n, BLOCK)])


def prepare(name: str) -> dict[str, Any]:
    """Seconds of a pass of "ranks" or "topk"."""
    run(name, 1)
    return {"seconds": run(name, 1), "variant": name}


@torch.no_grad()
def run(name: str, steps: int) -> float:
    """Seconds of `steps` passes over all queries."""
    torch.set_num_threads(CORES)
    began = time.perf_counter()
    for _ in range(steps):
        {"ranks": ranks, "topk": topk}[name]()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def about() -> dict[str, str]:
    """Versions here."""
    found = versions(("python", "torch", "numpy"))
    return {"peers' python" if k == "python" else k: v for k, v in found.items()}


if __name__ == "__main__":
    handlers = {"open": open_world, "prepare": prepare, "run": run, "about": about}
    serve({**handlers, "peak": lambda: of_torch(CORES)})
