"""The worker that trains the same embedding table with torch; needs neither jax nor mtl_jax.

`python -m benchmarks.embedding_theirs`, started by `benchmarks.embedding`.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.embedding_data import HIDDEN, WIDTH, HostArray, World, batches, table, weights
from benchmarks.machine import free_gib, versions
from benchmarks.peak import of_torch
from benchmarks.turns import serve

CORES = torch.get_num_threads()
RATE = 1e-4
Step = Callable[[dict[str, Any]], Any]
_open: dict[str, Any] = {}
_chosen: dict[str, tuple[Step, int]] = {}


def mlp() -> Any:
    """64 -> 128 -> a logit [B], with the benchmark's weights."""
    layers = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Flatten(0))
    given = weights()
    with torch.no_grad():
        for at, layer in (("0", layers[0]), ("1", layers[2])):
            layer.weight.copy_(torch.from_numpy(given[f"{at}/kernel"]).T)
            layer.bias.copy_(torch.from_numpy(given[f"{at}/bias"]))
    return layers


def open_world(**shape: int) -> float:
    """Makes a world in place of the one that is open; loss of its first batch."""
    _open.clear()
    _chosen.clear()
    gc.collect()
    world = World(**shape)
    values: HostArray = table(world)
    _open.update(
        world=world,
        table=nn.Parameter(torch.from_numpy(values)),
        layers=mlp(),
        batches=[{k: torch.from_numpy(v) for k, v in b.items()} for b in batches(world)],
        count=0,
    )
    with torch.no_grad():
        return float(_loss(_bag(False), _open["batches"][0]))


def _lookup(sparse: bool) -> Callable[[Any], Any]:
    return lambda ids: functional.embedding(ids, _open["table"], sparse=sparse).mean(1)


def _bag(sparse: bool) -> Callable[[Any], Any]:
    return lambda ids: functional.embedding_bag(ids, _open["table"], mode="mean", sparse=sparse)


def _loss(look: Callable[[Any], Any], batch: dict[str, Any]) -> Any:
    logits = _open["layers"](look(batch["ids"]))
    return functional.binary_cross_entropy_with_logits(logits, batch["label"])


def _plain(look: Callable[[Any], Any], all_of: list[Any]) -> Step:
    def step(batch: dict[str, Any]) -> Any:
        for o in all_of:
            o.zero_grad(set_to_none=True)
        _loss(look, batch).backward()
        for o in all_of:
            o.step()

    return step


def _by_hand(all_of: list[Any]) -> Step:
    """Distinct rows as leaves, found by hand, so that the sparse gradient comes coalesced."""

    def step(batch: dict[str, Any]) -> Any:
        for o in all_of:
            o.zero_grad(set_to_none=True)
        values = _open["table"]
        rows, at = torch.unique(batch["ids"], return_inverse=True)
        leaves = values.detach()[rows].requires_grad_()
        _loss(lambda _: functional.embedding_bag(at, leaves, mode="mean"), batch).backward()
        values.grad = torch.sparse_coo_tensor(
            rows[None], leaves.grad, values.shape, is_coalesced=True, check_invariants=False
        )
        for o in all_of:
            o.step()

    return step


def _variants(what: str) -> dict[str, Step]:
    """Ways to write the step; those of one optimiser share its state."""
    values, dense = _open["table"], torch.optim.Adam(_open["layers"].parameters(), RATE, fused=True)
    if what == "dense":
        ways = {"fused": {"fused": True}, "foreach": {"foreach": True}}
        made = {k: torch.optim.Adam([values], RATE, **v) for k, v in ways.items()}
        made["foreach"].state = made["fused"].state
        return {k: _plain(_bag(False), [o, dense]) for k, o in made.items()}
    kinds = {"sparse": torch.optim.SparseAdam, "adagrad": torch.optim.Adagrad}
    both = [kinds[what]([values], RATE), dense]
    return {
        "embedding": _plain(_lookup(True), both),
        "embedding_bag": _plain(_bag(True), both),
        "rows by hand": _by_hand(both),
    }


def prepare(name: str, what: str) -> dict[str, Any]:
    """Times all ways to write "sparse", "adagrad" or "dense", and keeps the fastest under `name`.

    The answer: "seconds" of the best, "tried" [way, threads, seconds or why not], best first.
    """
    world: World = _open["world"]
    copies = {"sparse": 2, "adagrad": 1, "dense": 4}[what]
    size = copies * 4 * world.rows * WIDTH / 2**30
    if size > free_gib():
        raise MemoryError(f"{size:.0f} GiB for gradients and moments, {free_gib():.0f} are free")
    tried: list[list[Any]] = []
    steps = _variants(what)
    for way, step in steps.items():
        for threads in sorted({CORES, 1}, reverse=True):
            try:
                tried.append([way, threads, _try(step, threads)])
            except (RuntimeError, NotImplementedError) as error:
                tried.append([way, threads, str(error).strip().splitlines()[0][:120]])
    done = sorted((t for t in tried if not isinstance(t[2], str)), key=lambda t: t[2])
    if not done:
        raise RuntimeError(f"nothing ran: {tried}")
    _chosen[name] = (steps[done[0][0]], done[0][1])
    failed = [t for t in tried if isinstance(t[2], str)]
    return {"seconds": done[0][2], "tried": done + failed}


def _try(step: Step, threads: int) -> float:
    """The least of three steps' seconds after a first one."""
    torch.set_num_threads(threads)
    found = []
    for _ in range(4):
        began = time.perf_counter()
        _one(step)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def _one(step: Step) -> None:
    step(_open["batches"][_open["count"] % len(_open["batches"])])
    _open["count"] += 1


def forget(name: str) -> None:
    """Lets go of an entry, its optimiser's state and the table's gradient."""
    _chosen.pop(name, None)
    _open["table"].grad = None
    gc.collect()


def run(name: str, steps: int) -> float:
    """Seconds of so many steps."""
    step, threads = _chosen[name]
    torch.set_num_threads(threads)
    began = time.perf_counter()
    for _ in range(steps):
        _one(step)
    return time.perf_counter() - began


def about() -> dict[str, str]:
    """Versions here."""
    return {"torch": versions(("torch",)).get("torch", "")}


if __name__ == "__main__":
    serve(
        {
            "open": open_world,
            "prepare": prepare,
            "forget": forget,
            "run": run,
            "about": about,
            "peak": lambda: of_torch(CORES),
        }
    )
