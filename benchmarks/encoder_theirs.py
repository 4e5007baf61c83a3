"""The worker that runs Hugging Face's BERT on torch; needs neither jax nor mtl_jax."""

import itertools
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from benchmarks.encoder_data import SHAPES, HostArray, groups, rows
from benchmarks.machine import versions
from benchmarks.memory import peak_mib
from benchmarks.peak import of_torch
from benchmarks.recommender_torch import Texts, pretrained
from benchmarks.tuning import tune
from benchmarks.turns import serve

CORES = torch.get_num_threads()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class Open:
    """Model, optimiser and texts."""

    texts: Texts
    optimiser: Any
    tokens: HostArray
    offsets: HostArray
    weights: Any
    length: int
    chosen: dict[str, Callable[[], Any]] = field(default_factory=dict)


_open: list[Open] = []


def open_world(model: str, length: int, path: str, folder: str) -> list[list[float]]:
    """The model and the texts at `path`. MiniLM lies in `folder`: its vectors of the first four."""
    _open.clear()
    torch._dynamo.reset()
    if model == "minilm":
        bert = pretrained(folder)
    else:
        H, layers, heads, ffn = SHAPES[model]
        config = BertConfig(
            hidden_size=H, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=ffn, attn_implementation="sdpa",
        )  # fmt: skip
        bert = BertModel(config, add_pooling_layer=False)
    with np.load(path) as found:
        arrays = dict(found)
    texts = Texts(bert).to(DEVICE)
    optimiser = torch.optim.AdamW(texts.parameters(), lr=1e-6, weight_decay=0.01, fused=True)
    weights = torch.from_numpy(arrays["weights"]).to(DEVICE)
    o = Open(texts, optimiser, arrays["tokens"], arrays["offsets"], weights, length)
    _open.append(o)
    texts.eval()
    if model != "minilm":
        return []
    with torch.no_grad():
        parts, back = _parts(o, 1)
        return texts(*parts[0])[back][:4].tolist()


def _parts(o: Open, n: int) -> tuple[list[tuple[Any, Any]], Any]:
    """(ids, lengths) of n groups by length, each padded to its longest (0: all to L); the order."""
    lengths = np.diff(o.offsets)
    cut = groups(lengths, n) if n else [np.arange(len(lengths))]
    found = []
    for which in cut:
        width = int(lengths[which].max()) if n else o.length
        ids = rows(o.tokens, o.offsets, which, width).astype(np.int64)
        found.append(
            (torch.from_numpy(ids).to(DEVICE), torch.from_numpy(lengths[which]).to(DEVICE))
        )
    return found, torch.from_numpy(np.argsort(np.concatenate(cut))).to(DEVICE)


def _step(o: Open, train: bool, n: int, compiled: bool, half: bool) -> Callable[[], Any]:
    """One way to do a step; made when it is tried, since compiling takes long."""
    ready: list[Any] = []

    def step() -> None:
        if not ready:
            run = torch.compile(o.texts, dynamic=n > 1) if compiled else o.texts
            ready.extend((run, *_parts(o, n)))
        run, parts, back = ready
        cast = torch.autocast(DEVICE, torch.bfloat16) if half else nullcontext()
        o.texts.train(train)
        o.optimiser.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(train), cast:
            vectors = torch.cat([run(ids, lengths) for ids, lengths in parts])[back]
        if train:
            (vectors.float() * o.weights).sum().backward()
            o.optimiser.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return step


def prepare(name: str, half: bool = False, fuse: bool = False) -> dict[str, Any]:
    """Times the variants of "forward" or "train" and keeps the fastest.

    half: bfloat16 by autocast. fuse: `torch.compile` too.
    """
    (o,) = _open
    padded = len(o.weights) * o.length < 2 * len(o.tokens)  # else groups are twice as fast
    ways = {
        f"{f'{n} groups' if n else 'padded to L'}{', compiled' * c}": _step(
            o, name == "train", n, c, half
        )
        for c, n in itertools.product((False, True) if fuse else (False,), (16, 8, 4, 0))
        if not (c and n == 4) and (n or padded)
    }
    variant, took, tried = tune(ways)
    o.chosen[name] = ways[variant]
    return {"seconds": took, "variant": variant, "tried": tried, "resident_mib": memory(name)}


def memory(name: str) -> float:
    """Peak of a step, MiB: resident on a CPU, allocated on a GPU."""
    (o,) = _open
    if DEVICE == "cpu":
        return peak_mib(o.chosen[name])
    torch.cuda.reset_peak_memory_stats()
    o.chosen[name]()
    return float(torch.cuda.max_memory_allocated()) / 2**20


def run(name: str, steps: int) -> float:
    """Seconds of so many steps."""
    (o,) = _open
    began = time.perf_counter()
    for _ in range(steps):
        o.chosen[name]()
    return time.perf_counter() - began


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
