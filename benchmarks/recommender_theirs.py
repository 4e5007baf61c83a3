"""The worker that trains our recommender in torch; needs neither jax nor mtl_jax.

`python -m benchmarks.recommender_theirs`, started by `benchmarks.recommender` and `.cached`.
Batches are built by a thread one step ahead, as a loader would.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import versions
from benchmarks.peak import of_torch
from benchmarks.recommender_data import BATCHES, ROW_KEYS, HostArray, load
from benchmarks.recommender_torch import Mirror, Texts, pretrained
from benchmarks.tuning import tune
from benchmarks.turns import serve

CORES = torch.get_num_threads()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CALL = 2**15 if DEVICE == "cpu" else 2**18  # tokens, padding included, of a micro-batch
Inputs = dict[str, Any]
Make = Callable[[int], Any]


@dataclass
class World:
    """The dump, one model for each way to hold tables, and the steps that were chosen."""

    dump: dict[str, Any]
    texts: Any = None
    vectors: Any = None
    states: Any = None
    models: dict[tuple[bool, bool], tuple[Mirror, list[Any]]] = field(default_factory=dict)
    compiled: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, tuple["Way", int]] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class Way:
    """One way to do a step: `make` builds batch n on the host, `step` trains on it and says what
    its seconds are to be multiplied by (above 1 where it did a part of the batch)."""

    make: Make
    step: Callable[[Any], float]


_world: list[World] = []


def open_world(dump: str) -> dict[str, list[float]]:
    """Reads the folder; losses [T] of batch 0 without dropout, "distinct" and "as-written"."""
    _world.clear()
    torch._dynamo.reset()
    torch.set_float32_matmul_precision("highest")
    w = World(load(Path(dump)))
    meta = w.dump["meta"]
    if "vectors" in w.dump:
        w.vectors = torch.from_numpy(w.dump["vectors"]).to(DEVICE)
    else:
        w.texts = Texts(pretrained(meta["hf"]), meta["train_layers"]).to(DEVICE)
    if "states" in w.dump:
        bits = torch.from_numpy(w.dump["states"].view(np.int16))
        w.states = bits.view(torch.bfloat16)
    _world.append(w)
    return _losses(w)


def _losses(w: World) -> dict[str, list[float]]:
    model, _ = _model(w)
    model.eval()
    found = {}
    with torch.no_grad():
        if w.texts is None:
            sums = model(*_cached(w, 0, everything=False))
            found["distinct"] = _means(w, sums, 0)
        else:
            w.texts.eval()
            x, groups = _distinct(w, 0, 4)
            found["distinct"] = _means(w, model(x, _encode(w.texts, x, groups)), 0)
            w.texts.rounded = w.states is not None  # or the cache's rounding would be a difference
            parts = [model(x, _encode(w.texts, x, [g])) for x, g in _copies(w, 0)[0]]
            w.texts.rounded = False
            sums = {t: sum(p[t] for p in parts) for t in parts[0]}
            found["as-written"] = _means(w, sums, 0)
            w.texts.train()
    model.train()
    return found


def _means(w: World, sums: dict[str, Any], n: int) -> list[float]:
    counts = _counts(w, n)
    return [float(s) / counts[t] for t, s in sums.items()]


def _counts(w: World, n: int) -> dict[str, float]:
    """Labelled rows of each task in batch n."""
    return {t: float(w.dump["batches"][f"mask/{t}"][n].sum()) for t in w.dump["meta"]["weights"]}


def _model(w: World, sparse: bool = False, gathered: bool = False) -> tuple[Mirror, list[Any]]:
    """The model and its optimisers; tables by SparseAdam, or by AdamW with all else."""
    key = (sparse, gathered)
    if key not in w.models:
        model = Mirror(w.dump, gathered, sparse).to(DEVICE)
        w.models[key] = (model, _optimisers(w, model, sparse))
    return w.models[key]


def _optimisers(w: World, model: Mirror, sparse: bool) -> list[Any]:
    meta = w.dump["meta"]
    groups: dict[tuple[float, float], list[Any]] = {}

    def add(named: Any, factor: float) -> None:
        for name, p in named:
            plain = p.ndim < 2 or "position" in name or name.startswith("tables")
            if p.requires_grad and not (sparse and name.startswith("tables")):
                decay = 0.0 if plain else meta["decay"]
                groups.setdefault((meta["rate"] * factor, decay), []).append(p)

    add(model.named_parameters(), 1.0)
    if w.texts is not None:
        add(w.texts.named_parameters(), meta["encoder_factor"])
    chosen = [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()]
    found: list[Any] = [torch.optim.AdamW(chosen, fused=True)]
    if sparse:
        found.append(torch.optim.SparseAdam(list(model.tables.parameters()), lr=meta["rate"]))
    return found


def _rows(w: World, n: int, rows: slice, ids: HostArray, item: Any, hist: Any) -> Inputs:
    """Tensors of some rows of batch n; ids [U], item and hist indices into them."""
    b = w.dump["batches"]
    names = [*ROW_KEYS, *(k for k in b if k.startswith(("label/", "mask/")))]
    x = {k: b[k][n][rows] for k in names} | {"user": b["user"][n][rows]}
    x |= {"ids": ids, "item": item, "hist": hist}
    for k in ("user", "ids", "item", "hist", "hist_type"):
        x[k] = x[k].astype(np.int64)
    return {k: torch.from_numpy(np.ascontiguousarray(v)).to(DEVICE) for k, v in x.items()}


def _cached(w: World, n: int, everything: bool) -> tuple[Inputs, Any]:
    """Distinct items of batch n and their vectors, or all items and theirs (static shapes)."""
    b = w.dump["batches"]
    item, hist = b["item"][n], b["hist"][n]
    if everything:
        return _rows(w, n, slice(None), np.arange(len(w.vectors)), item, hist), w.vectors
    ids = np.unique(np.append(np.append(hist, item), 0))
    local = [np.searchsorted(ids, x) for x in (item, hist)]
    x = _rows(w, n, slice(None), ids, *local)
    return x, w.vectors[x["ids"]]


@dataclass(frozen=True)
class Group:
    """Texts of about a length: at [n] their places among U; ids [n, L] or states [n, L, Dt]."""

    at: Any
    lengths: Any
    ids: Any
    states: Any = None


def _group(w: World, at: HostArray, texts: HostArray, width: int, cached: bool) -> Group:
    tokens, offsets = w.dump["items"]["tokens"], w.dump["items"]["offsets"]
    start = offsets[texts]
    lengths = offsets[texts + 1] - start
    place = start[:, None] + np.minimum(np.arange(width)[None], lengths[:, None] - 1)
    flat = torch.from_numpy(place)
    states = w.states[flat].float().to(DEVICE) if cached and w.states is not None else None
    ids = torch.from_numpy(tokens[place].astype(np.int64)).to(DEVICE)
    return Group(torch.from_numpy(at).to(DEVICE), torch.from_numpy(lengths).to(DEVICE), ids, states)


def _distinct(w: World, n: int, groups: int) -> tuple[Inputs, list[Group]]:
    """Every distinct text of batch n once, sorted by length into groups of equal tokens."""
    b, offsets = w.dump["batches"], w.dump["items"]["offsets"]
    ids = np.unique(np.append(np.append(b["hist"][n], b["item"][n]), 0))
    x = _rows(w, n, slice(None), ids, *(np.searchsorted(ids, b[k][n]) for k in ("item", "hist")))
    lengths = offsets[ids + 1] - offsets[ids]
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    share = np.cumsum(lengths[order]) / lengths.sum()
    cuts = np.searchsorted(share, np.arange(1, groups) / groups)
    made = [
        _group(w, part, ids[part], int(lengths[part].max()), cached=True)
        for part in np.split(order, cuts)
        if len(part)
    ]
    return x, made


def _copies(w: World, n: int, most: int = 0) -> tuple[list[tuple[Inputs, Group]], float]:
    """Micro-batches in which every text of every row stands, padded to the batch's longest.

    most: micro-batches at most, 0 is all. Also what share of the rows they hold.
    """
    b, offsets = w.dump["batches"], w.dump["items"]["offsets"]
    item, hist = b["item"][n], b["hist"][n]
    named = np.append(item, hist[hist > 0])
    width = int((offsets[named + 1] - offsets[named]).max())
    rows = max(1, CALL // (width * (hist.shape[1] + 1)))
    found: list[tuple[Inputs, Group]] = []
    for start in range(0, len(item), rows):
        if most and len(found) == most:
            break
        part = slice(start, start + rows)
        real = hist[part] > 0
        ids = np.concatenate([[0], item[part], hist[part][real]])
        local = np.zeros(real.shape, np.int64)
        local[real] = np.arange(real.sum()) + 1 + len(real)
        x = _rows(w, n, part, ids, np.arange(len(real)) + 1, local)
        found.append((x, _group(w, np.arange(1, len(ids)), ids[1:], width, cached=False)))
    return found, min(1.0, len(found) * rows / len(item))


def _encode(texts: Any, x: Inputs, groups: list[Group]) -> Any:
    """Text vectors [U, Dt]; an item without text gets zeros."""
    parts = [texts(g.ids, g.lengths, g.states) for g in groups]
    first = parts[0]
    out = torch.zeros(len(x["ids"]), first.shape[1], dtype=first.dtype, device=first.device)
    return out.index_copy(0, torch.cat([g.at for g in groups]), torch.cat(parts)).float()


def _loss(w: World, sums: dict[str, Any], counts: dict[str, float]) -> Any:
    weights = w.dump["meta"]["weights"]
    return sum(weights[t] * s / counts[t] for t, s in sums.items())


def _zero(optimisers: list[Any]) -> None:
    for o in optimisers:
        o.zero_grad(set_to_none=True)


def _step(optimisers: list[Any]) -> None:
    for o in optimisers:
        o.step()


def _half(on: bool) -> Any:
    return torch.autocast(DEVICE, torch.bfloat16) if on else nullcontext()


def as_written(w: World, most: int, half: bool = False) -> Way:
    """Every text of every row through the encoder, gradients accumulated over micro-batches."""
    model, optimisers = _model(w)

    def step(batch: Any) -> float:
        (parts, share), counts = batch
        _zero(optimisers)
        for x, group in parts:
            with _half(half):
                sums = model(x, _encode(w.texts, x, [group]))
            _loss(w, sums, counts).backward()
        _step(optimisers)
        return 1.0 / share

    return Way(lambda n: (_copies(w, n, most), _counts(w, n)), step)


def best(w: World, groups: int, compiled: bool = False, half: bool = False) -> Way:
    """Distinct texts once, by length, frozen layers' states from memory."""
    model, optimisers = _model(w)
    texts: Any = w.texts
    if compiled:
        if "texts" not in w.compiled:
            w.compiled["texts"] = torch.compile(w.texts, dynamic=True)
        texts = w.compiled["texts"]

    def step(batch: Any) -> float:
        (x, parts), counts = batch
        _zero(optimisers)
        with _half(half):
            sums = model(x, _encode(texts, x, parts))
        _loss(w, sums, counts).backward()
        _step(optimisers)
        return 1.0

    return Way(lambda n: (_distinct(w, n, groups), _counts(w, n)), step)


def frozen(w: World, sparse: bool, gathered: bool, everything: bool, compiled: bool) -> Way:
    """Pooled vectors from memory; see `Mirror` and `_cached`."""
    model, optimisers = _model(w, sparse, gathered)
    run: Any = model
    if compiled:
        run = torch.compile(model, dynamic=not everything)

    def step(batch: Any) -> float:
        (x, text), counts = batch
        _zero(optimisers)
        _loss(w, run(x, text), counts).backward()
        _step(optimisers)
        return 1.0

    return Way(lambda n: (_cached(w, n, everything), _counts(w, n)), step)


def ways(w: World, name: str, most: int) -> dict[str, Callable[[], Way]]:
    """The variants of an entry, made when they are tried."""
    gpu = DEVICE == "cuda"
    if name == "as-written":
        found = {"float32": lambda: as_written(w, most)}
        return found | ({"bfloat16": lambda: as_written(w, most, True)} if gpu else {})
    if name == "best":
        options = itertools.product(
            (1, 4, 8, 16), (False, True), (False, True) if gpu else (False,)
        )
        return {
            f"{g} groups{', compiled' * c}{', bfloat16' * h}": (
                lambda g=g, c=c, h=h: best(w, g, c, h)  # type: ignore[misc]
            )
            for g, c, h in options
            if g in (4, 16) or not c
        }
    compiled = name == "compiled"
    return {
        f"{'SparseAdam' if s else 'AdamW'}, {'gathered' if g else 'product'}, "
        f"{'all items' if e else 'distinct items'}": (
            lambda s=s, g=g, e=e: frozen(w, s, g, e, compiled)  # type: ignore[misc]
        )
        for s, g, e in itertools.product(*[(False, True)] * 3)
        if not (s and (compiled or e))
    }


def prepare(name: str, most: int = 0, only: list[str] | None = None) -> dict[str, Any]:
    """Times the variants of "as-written", "best", "eager" or "compiled" and keeps the fastest.

    most: micro-batches of "as-written" in a step, whose time is then scaled up to the batch.
    """
    (w,) = _world
    if DEVICE == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as JAX's default is
    made: dict[str, Way] = {}
    variants = ways(w, name, most)
    few = name == "eager"
    threads = {f"{v}, {n} threads": n for v in variants for n in {CORES, 1 if few else CORES}}

    def trial(variant: str) -> float:
        way = variant.rsplit(", ", 1)[0]
        if way not in made:
            made[way] = variants[way]()
        w.chosen[name] = (made[way], threads[variant])
        return run(name, BATCHES if w.vectors is not None else 1)

    trials = {v: (lambda v=v: trial(v)) for v in threads}
    which = [o for o in only or [] if o in threads] or None
    variant, took, tried = tune(trials, which)
    w.chosen[name] = (made[variant.rsplit(", ", 1)[0]], threads[variant])
    once = took / (BATCHES if w.vectors is not None else 1)
    return {"seconds": once, "variant": variant, "tried": tried}


def _ahead(make: Make, numbers: range) -> Iterator[Any]:
    """Batches, each built by a thread while the one before is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(make, numbers[0])
        for n in [*numbers[1:], None]:
            batch = waiting.result()
            if n is not None:
                waiting = pool.submit(make, n)
            yield batch


def run(name: str, steps: int) -> float:
    """Seconds of so many steps."""
    (w,) = _world
    way, threads = w.chosen[name]
    torch.set_num_threads(threads)
    numbers = range(w.count, w.count + steps)
    total, began = 0.0, time.perf_counter()
    for batch in _ahead(lambda n: way.make(n % BATCHES), numbers):
        factor = way.step(batch)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        total += factor * (now - began)
        began = now
    w.count += steps
    return total


def about() -> dict[str, str]:
    """Versions here."""
    found = versions(("python", "torch", "transformers", "numpy"))
    return {"peers' python" if k == "python" else k: v for k, v in found.items()}


if __name__ == "__main__":
    torch._dynamo.config.cache_size_limit = 64
    serve(
        {
            "open": open_world,
            "prepare": prepare,
            "run": run,
            "peak": lambda: of_torch(CORES),
            "about": about,
        }
    )
