"""A whole training step of the text-driven recommender: ours against torch, on MovieLens.

python -m benchmarks.recommender --out=DIR [--quick] [--suite=cpu|gpu] [--data=DIR]
    [--case=titles|plots] [--profile]

Batch 64 in random order, history 50, title and genres as text ("-plots": and the plot). On a CPU
MiniLM's top layer trains, on a GPU all of it and in bfloat16. Torch runs the same model with the
same weights (same losses to 1e-4 in float32, or there is no number), dropout and AdamW; batches are
built ahead on both sides.

torch-as-written  every text of every row through Hugging Face's encoder (sdpa), padded to the
                  longest, gradients accumulated over micro-batches; frozen layers under no_grad
torch-best        distinct texts once, by length, the frozen layers' token states from the same
                  cache that ours reads, torch.compile where it helps
-avx512           torch's MKL made to use AVX-512

Speedups are torch's seconds a step over ours. What ours must reach over torch as written follows
from the copies of a text in a batch, which are counted. Of plots "as written" a part of the
micro-batches is timed and scaled up to the batch (`measured_micro_batches`).
"""

import itertools
import re
import tempfile

import numpy as np

from benchmarks.contest import Contest, contest, known, options, suffix
from benchmarks.recommender_bench import opened

BATCH, QUICK_BATCH = 64, 16
MICRO_BATCHES = {"titles": 0, "plots": 2}  # timed of a step as written; 0 is all


def floor(tokens: float, width: int, ffn: int, layers: int, gflops: float) -> float:
    """Seconds of the matrix products of the trained layers: 6 operations a weight and token."""
    weights = layers * (4 * width * width + 2 * width * ffn)
    return 6 * weights * tokens / (1e9 * gflops)


def world(c: Contest, folder: str, texts: str, rounds: int) -> None:
    """Rows of one kind of text."""
    o, tail = c.options, "" if texts == "titles" else f"-{texts}"
    batch = QUICK_BATCH if o.quick else BATCH
    layers, cpu = (1, True) if o.suite == "cpu" else (-1, False)
    told = opened(c, folder, texts, batch, layers)
    most = MICRO_BATCHES[texts] if cpu else 0
    mine = f"ours step{tail}"
    entries = [c.entry(c.ours, "step", label=f"step{tail}")]
    for w in c.theirs:
        entries.append(c.entry(w, "as-written", label=f"as-written{tail}", most=most))
        tried = c.tuning.get(f"{w.name} best", {}).get("tried", []) if tail else []
        only = [name for name, took in tried if not isinstance(took, str)][:2]
        entries.append(c.entry(w, "best", label=f"best{tail}", only=only))
    got = c.turns(entries, rounds)
    about = {k: told[k] for k in ("copies", "distinct", "tokens")} | {"batch": batch}
    about |= {"host_ms": 1e3 * c.ours.call("host"), "measured_micro_batches": most or "all"}
    if o.profile:
        c.about[f"kernels-{texts}"] = c.ours.call("kernels")
    if times := known(got, mine):
        about["examples_s"] = batch / float(np.median(times))
    peak = c.peak["best"]["gflops" if cpu else "bfloat16_gflops"]
    least = floor(told["tokens"], 384, 1536, 1 if cpu else 6, peak)
    bounds = {"as-written": 0.8 * told["copies"], "best": 1.0 if cpu else 1.2}
    for w, (name, bound) in itertools.product(c.theirs, bounds.items()):
        full, wanted = f"{w.name} {name}{tail}", None if suffix(w) else bound
        more = {"variant": c.tuning.get(full, {}).get("variant", ""), **about}
        case = f"torch-{name}{suffix(w)}{tail}"
        c.row(case, "speedup", full, mine, got, wanted, least, **more)


def main() -> None:
    """Measures and writes."""
    o = options("recommender", __doc__, cases=True)
    modules = ("benchmarks.recommender_ours", "benchmarks.recommender_theirs")
    with contest("recommender", o, *modules) as c, tempfile.TemporaryDirectory() as folder:
        for texts in ("titles",) if o.quick else ("titles", "plots"):
            if not re.search(o.case, texts):
                continue
            world(c, folder, texts, 3 if texts == "plots" or o.quick else 5)
            c.publish()


if __name__ == "__main__":
    main()
