"""The worker that runs torch and the peers on it; needs neither jax nor mtl_jax.

`python -m benchmarks.balancing_theirs [LIBMTL]`, started by `benchmarks.balancing`.
"""

import gc
import sys
import time
from typing import Any

import torch
import torch._functorch.config

from benchmarks import balancing_peers as peers
from benchmarks.balancing_data import World, batches, tables, weights
from benchmarks.balancing_torch import Optimisers, Recommender, Step, load, summed, to_torch
from benchmarks.machine import free_gib, versions
from benchmarks.peak import of_torch
from benchmarks.turns import serve

CORES = torch.get_num_threads()
COPIES = 3.5  # of the Jacobian that a peer holds at once, for the look at free memory
torch._functorch.config.donated_buffer = False  # or compiled parts refuse retain_graph
PATIENCE = 60.0  # seconds of tuning one entry, after which no further variant is begun
_world: dict[str, Any] = {}
_chosen: dict[str, tuple[Step, int, bool]] = {}
_libmtl: list[str] = []


def open_world(tasks: int, rows: int) -> list[float]:
    """Makes the world; losses [T] of its first batch with the initial weights."""
    _world.clear()
    _chosen.clear()
    gc.collect()
    world = World(tasks, rows)
    raw = batches(world)
    _world.update(world=world, raw=raw, ready=[to_torch(b) for b in raw], count=0, models={})
    model, _ = _model(sparse=False)
    with torch.no_grad():
        return [float(x) for x in model(_world["ready"][0])]


def _model(sparse: bool) -> tuple[Recommender, Optimisers]:
    if sparse not in _world["models"]:
        model = Recommender(_world["world"], sparse)
        load(model, weights(_world["world"]), tables(_world["world"]))
        _world["models"][sparse] = (model, Optimisers(model))
    found: tuple[Recommender, Optimisers] = _world["models"][sparse]
    return found


def _variants(kind: str, method: str) -> dict[str, Step]:
    dense, by_rows = _model(sparse=False), _model(sparse=True)
    if kind == "summed":
        return {**summed(*dense), **summed(*by_rows)}
    if kind == "torchjd-shared":
        return peers.torchjd_shared(*dense, method)
    if kind == "torchjd-rows":
        return peers.torchjd_rows(*by_rows, method)
    if kind == "torchjd-representation":
        return {
            f"{name}, {way}": step
            for name, pair in (("dense", dense), ("sparse", by_rows))
            for way, step in peers.torchjd_representation(*pair, method).items()
        }
    if not _libmtl:
        raise ModuleNotFoundError("LibMTL: no clone was given (--libmtl=PATH)")
    peers.find_libmtl(_libmtl[0])
    if kind == "libmtl-shared":
        return peers.libmtl(*dense, method, rep_grad=False)
    return {
        f"{name}, {way}": step
        for name, pair in (("dense", dense), ("sparse", by_rows))
        for way, step in peers.libmtl(*pair, method, rep_grad=True).items()
    }


def prepare(
    name: str, kind: str, method: str = "", only: list[list[Any]] | None = None, fuse: bool = False
) -> dict[str, Any]:
    """Times every variant with 1 thread and with all, and keeps the fastest under `name`.

    only: [variant, threads, fused] to look at; None is all. fuse: try `torch.compile` too.
    The answer: "seconds" of the best, "tried" [variant, threads, fused, seconds or why not] sorted.
    """
    world: World = _world["world"]
    size = world.tasks * 4 * (2 * world.table_rows * 64) / 2**30
    if kind.endswith("shared") and COPIES * size > free_gib():
        raise MemoryError(f"{COPIES * size:.0f} GiB for Jacobians, {free_gib():.0f} are free")
    steps = _variants(kind, method)
    wanted = only or [
        [v, n, f] for v in steps for f in ((False, True) if fuse else (False,)) for n in (CORES, 1)
    ]
    tried: list[list[Any]] = []
    began = time.perf_counter()
    for variant, threads, fused in wanted:
        if time.perf_counter() - began > PATIENCE and not all(isinstance(t[3], str) for t in tried):
            tried.append([variant, threads, fused, "not tried: no time left"])
            continue
        if any(t[0] == variant and t[2] == fused and isinstance(t[3], str) for t in tried):
            continue  # it failed with another number of threads
        try:
            known = [t[3] for t in tried if not isinstance(t[3], str)]
            took = _try(steps[variant], threads, fused, 3 * min(known, default=1e9))
            tried.append([variant, threads, fused, took])
        except (RuntimeError, NotImplementedError, ValueError) as error:
            tried.append([variant, threads, fused, str(error).strip().splitlines()[0][:120]])
    done = sorted((t for t in tried if not isinstance(t[3], str)), key=lambda t: t[3])
    if not done:
        raise RuntimeError(f"no variant ran: {tried}")
    best = done[0]
    _chosen[name] = (steps[best[0]], best[1], best[2])
    failed = [t for t in tried if isinstance(t[3], str)]
    return {"seconds": best[3], "tried": done + failed}


def _try(step: Step, threads: int, fused: bool, enough: float) -> float:
    """The least of two steps' seconds after a first one; the first if it is hopelessly long."""
    _set(threads, fused)
    found = []
    for n in range(3):
        began = time.perf_counter()
        _one(step)
        found.append(time.perf_counter() - began)
        if (n and sum(found) > 6) or (not fused and n == 0 and found[0] > max(enough, 0.2)):
            break
    return min(found[1:] or found)


def _set(threads: int, fused: bool) -> None:
    torch.set_num_threads(threads)
    for model, _ in _world["models"].values():
        if bool(model.encoder.fused) != fused:
            model.encoder.fuse(fused)


def _one(step: Step) -> None:
    n = _world["count"] % len(_world["raw"])
    step(_world["raw"][n], _world["ready"][n])
    _world["count"] += 1


def run(name: str, steps: int) -> float:
    """Seconds of so many steps."""
    step, threads, fused = _chosen[name]
    _set(threads, fused)
    began = time.perf_counter()
    for _ in range(steps):
        _one(step)
    return time.perf_counter() - began


def about() -> dict[str, str]:
    """Versions here."""
    return {
        "peers' python " + k if k == "python" else k: v
        for k, v in versions(
            ("python", "torch", "torchjd", "numpy", "cvxpy", "ecos", "qpsolvers", "quadprog")
        ).items()
    }


if __name__ == "__main__":
    _libmtl.extend(sys.argv[1:2])
    serve(
        {
            "open": open_world,
            "prepare": prepare,
            "run": run,
            "peak": lambda: of_torch(CORES),
            "about": about,
        }
    )
