"""The text encoder: forward and training step, ours against Hugging Face's on torch.

python -m benchmarks.encoder --out=DIR [--quick] [--suite=cpu|gpu] [--data=DIR] [--case=REGEX]
    [--profile]

MiniLM (real weights: vectors are compared first) and BERT-base (drawn weights), real item texts cut
to L tokens, every second one with its plot. A training step is forward, backward of the sum of
vectors times random numbers, AdamW; dropout 0.1 as the model says. Ours is packed with segments,
as the training job does by default. Torch (sdpa) is at the fastest of: groups by length (and
padded to L, unless that doubles the tokens), each eager and by torch.compile; on a GPU all of it
in bfloat16.

torch-<model>-L<L>-<forward|train>[-avx512]  torch's seconds over ours
products-<model>-L<L>-train, roofline-...     our seconds over those of the texts' products at the
                  best product of this run; and over those plus the bytes that no product can hide
                  (`encoder_data.bytes_moved`) at the memory's speed of this run. On a GPU
variant-<name>    our training step in another layout, over the default's (packed, float32)
default-vs-best   the default's over the fastest layout that computes the same, in one run

tokens_s counts the texts' own tokens; mfu is the operations of `encoder_data.operations` over the
time and over the best matrix product of this run.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contest, contest, known, options, suffix
from benchmarks.encoder_data import Case, bytes_moved, cases, operations
from benchmarks.spread import ratio
from benchmarks.turns import Samples, Unavailable

SAME = ("packed", "padded", "buckets", "grouped", "remat", "remat-activations")  # equal numbers
ON_GPU = ("mask",)  # the other kernel of attention
MFU, ROOFLINE = 0.45, 0.85  # wanted of BERT-base at L = 512 on a GPU


def opened(c: Contest, case: Case, folder: str) -> Any:
    """The texts' lengths; AssertionError where MiniLM's vectors differ by more than 1e-3."""
    from mtl_jax.adapt.minilm import minilm_folder

    path = str(Path(folder) / "texts.npz")
    words = {"model": case.model, "length": case.length, "path": path}
    told = c.ours.call("open", texts=case.texts, data=c.options.data, **words)
    for worker in list(c.theirs):
        try:
            head = worker.call("open", folder=str(minilm_folder()), **words)
        except Unavailable as error:
            c.missing[worker.name] = str(error)
            c.theirs.remove(worker)
            continue
        if case.model == "minilm" and not np.allclose(head, told["head"], atol=1e-3):
            raise AssertionError(f"{worker.name}: other vectors than ours")
    return np.asarray(told["lengths"])


def measure(c: Contest, case: Case, folder: str) -> None:
    """All rows of a case."""
    o = c.options
    c.say(f"opening {case.name}")
    lengths = opened(c, case, folder)
    for kind in ("train",) if o.quick else ("train", "forward"):
        _measure(c, case, kind, lengths)
        c.publish()


def _measure(c: Contest, case: Case, kind: str, lengths: Any) -> None:
    """Rows of "train" or "forward"; of training steps also the variants'."""
    o, gpu = c.options, c.options.suite == "gpu"
    main, name = case.name == "minilm-L128" and not gpu, f"{case.name}-{kind}"
    mine, words = f"ours {name}", {"half": gpu}
    variants: list[str] = []
    if kind == "train" and not (gpu and o.quick):
        variants = list(ON_GPU) if gpu else [v for v in (*SAME[1:], "bfloat16") if main]
    if o.quick:
        variants = [v for v in variants if v in ("padded", "grouped")]
    at = f"{case.name}-" if gpu else ""
    fuse = (main and not o.quick) or gpu
    entries = [c.entry(c.ours, kind, label=name, **words)]
    for v in variants:
        entries.append(c.entry(c.ours, f"train {v}", label=f"{at}train {v}", **words))
    for worker in c.theirs:
        entries.append(c.entry(worker, kind, label=name, fuse=fuse, **words))
    got = c.turns(entries, 3 if o.quick or case.model == "bert" else 5)
    _against(c, case, kind, lengths, got)
    for v in variants:
        other = f"ours {at}train {v}"
        more = {k: x for k, x in c.tuning.get(other, {}).items() if k != "tried"}
        c.row(f"variant-{at}{v}", "overhead", other, mine, got, **more)
    if kind == "train" and gpu:
        _floors(c, case, lengths, got)
    elif variants:
        _default(c, got, [f"ours train {v}" for v in variants if v in SAME])
    if o.profile:
        c.about[f"kernels-{name}"] = c.ours.call("kernels", name=kind)


def _floors(c: Contest, case: Case, lengths: Any, got: Samples) -> None:
    """Our training step over what it cannot go below."""
    best, name = c.peak["best"], f"ours {case.name}-train"
    least = operations(lengths, case.model, True) / (1e9 * best["bfloat16_gflops"])
    more = bytes_moved(lengths, case.model, 2) / (1e9 * best["gbytes"])
    asked = case.name == "bert-L512"
    for kind, per, share in (("products", least, MFU), ("roofline", least + more, ROOFLINE)):
        wanted = 1 / share if asked else None
        c.alone(f"{kind}-{case.name}-train", "overhead", name, got, per, wanted)


def _against(c: Contest, case: Case, kind: str, lengths: Any, got: Samples) -> None:
    mine = f"ours {case.name}-{kind}"
    ops = operations(lengths, case.model, kind == "train")
    peaks = c.peak["best"]
    peak = 1e9 * peaks.get("bfloat16_gflops", peaks["gflops"])
    told = c.tuning.get(mine, {})
    about = {k: told[k] for k in ("computed_tokens", "temporary_mib", "resident_mib") if k in told}
    about |= {"texts": case.texts, "tokens": int(lengths.sum())}
    if times := known(got, mine):
        took = float(np.median(times))
        about |= {"tokens_s": lengths.sum() / took, "mfu": ops / took / peak}
    for worker in c.theirs:
        full = f"{worker.name} {case.name}-{kind}"
        other = c.tuning.get(full, {})
        more = {"variant": other.get("variant", ""), "peer_mib": other.get("resident_mib", 0.0)}
        if times := known(got, full):
            more["peer_mfu"] = ops / float(np.median(times)) / peak
        name = f"torch-{case.name}-{kind}{suffix(worker)}"
        wanted = (
            1.0 if c.options.suite == "gpu" and name.startswith("torch-bert-L512-train") else None
        )
        c.row(name, "speedup", full, mine, got, wanted, ops / peak, **about, **more)


def _default(c: Contest, got: Samples, others: list[str]) -> None:
    """The default layout over the fastest of all, itself among them."""
    mine = "ours minilm-L128-train"
    medians = {n: float(np.median(known(got, n))) for n in (mine, *others) if known(got, n)}
    if mine not in medians:
        c.failed("default-vs-best", "overhead", "the default was not measured", 1.1)
        return
    best = min(medians, key=lambda n: medians[n])
    assert ratio(got.seconds[mine], got.seconds[best]) is not None
    c.row("default-vs-best", "overhead", mine, best, got, 1.1, best=best)


def main() -> None:
    """Measures and writes."""
    o = options("encoder", __doc__, cases=True)
    modules = ("benchmarks.encoder_ours", "benchmarks.encoder_theirs")
    with contest("encoder", o, *modules) as c, tempfile.TemporaryDirectory() as folder:
        for case in cases(o.suite, o.quick):
            if not re.search(o.case, case.name):
                continue
            measure(c, case, folder)


if __name__ == "__main__":
    main()
