"""Time to the first step of a training in a fresh process, without and with a compilation cache.

python -m benchmarks.startup [--out=DIR] [--quick] [--busy=0.1]

experiments.train on the quickstart configuration, each time in a folder of its own, so that data
are generated and prepared and texts encoded in each. Seconds are those of the training's own
"start" line: from the start of the process to the end of the first step.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import peak
from benchmarks.machine import commit, describe, ticks, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import ratio, spread

BENCH = "startup"
HERE = Path(__file__).resolve().parents[1]
COUNTED = ("import", "prepare", "encode", "model", "state", "batch", "compile", "first_step")
Parts = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """A start's parts in seconds, `others`: the share of the machine that others had meanwhile."""

    parts: Parts
    others: float


def start(out: Path, cache: str) -> Sample:
    """Two steps in a fresh process and a fresh folder."""
    workdir = out / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    sets = ("train.steps=2", "train.eval_part=", "train.monitor=")
    command = [
        sys.executable, "-m", "experiments.train", f"--workdir={workdir}",
        f"--compilation_cache={cache}", *(f"--set={s}" for s in sets),
    ]  # fmt: skip
    before, own = ticks(()), _own()
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    after, used = ticks(()), _own() - own
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    (told,) = (x for x in lines if x["kind"] == "start")
    parts = {k: float(v) for k, v in told.items() if k not in ("step", "kind")}
    busy = after.busy - before.busy - used
    return Sample(parts, max(busy, 0.0) / max(after.total - before.total, 1))


def _own() -> float:
    """Processor time of children that have ended, in ticks."""
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 100.0 * (r.ru_utime + r.ru_stime)


def medians(samples: Sequence[Sample]) -> Parts:
    """By part."""
    names = dict.fromkeys(k for s in samples for k in s.parts)
    return {k: float(np.median([s.parts[k] for s in samples])) for k in names}


def row_of_parts(case: str, samples: Sequence[Sample]) -> Row:
    """The share of compiling in all, and every part beside it."""
    share = [s.parts["compile"] / s.parts["seconds"] for s in samples]
    return Row(BENCH, case, "share", spread(share), more=medians(samples))


def broken_entry(out: Path, cache: Path, cold: Parts) -> Row:
    """A start that finds a part of the step's entry, against a cold one: the entry is rewritten."""
    (entry,) = cache.glob("jit_train_step-*-cache")
    size = entry.stat().st_size
    entry.write_bytes(entry.read_bytes()[: size // 2])
    got = start(out, str(cache))
    whole = entry.exists() and entry.stat().st_size > 0.9 * size
    return Row(
        BENCH, "broken-entry", "overhead", spread([got.parts["seconds"] / cold["seconds"]]),
        missing="" if whole else "the entry was not rewritten", more={"rewritten": whole},
    )  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/startup", help="folder for startup.json and .md")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--busy", type=float, default=0.1, help="what others may use in a sample")
    a = parser.parse_args()
    out = Path(a.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    cache = out / "compiled"
    shutil.rmtree(cache, ignore_errors=True)
    fill = start(out, str(cache))
    found: dict[str, list[Sample]] = {"off": [], str(cache): []}
    for r in range(1 if a.quick else 3):
        for name in found if r % 2 == 0 else reversed(found):
            found[name].append(start(out, name))
    cold, warm = found.values()
    calm = [[s.parts["seconds"] if s.others <= a.busy else None for s in x] for x in (cold, warm)]
    dropped = sum(v is None for x in calm for v in x)
    more = {
        "ours_ms": 1e3 * medians(warm)["seconds"], "base_ms": 1e3 * medians(cold)["seconds"],
        "filling_ms": 1e3 * fill.parts["seconds"],
        "cache_mib": sum(p.stat().st_size for p in cache.iterdir()) / 2**20,
    }  # fmt: skip
    value = ratio(*calm)
    missing = "" if value else "others used the machine all the time"
    rows = [
        Row(BENCH, "cold-vs-warm-cache", "speedup", value, missing=missing, more=more),
        row_of_parts("to-first-step-cold", cold),
        row_of_parts("to-first-step-warm", warm),
    ]
    if not a.quick:
        rows.append(broken_entry(out, cache, medians(cold)))
    rates = peak.of_jax()
    m = describe()
    head = {
        "machine": m, "versions": versions(("jax", "jaxlib")), "commit": commit(),
        "peak": {"best": rates}, "dropped": dropped,
    }  # fmt: skip
    parts = "\n".join(
        f"{r.case}: " + ", ".join(f"{k} {r.more[k]:.1f}" for k in (*COUNTED, "compiling")) + " s"
        for r in rows[1:3]
    )
    text = (
        f"# Starting\n\n{m['processor']}, {m['cores']} cores; {rates['gflops']:.0f} GF/s, "
        f"{rates['gbytes']:.0f} GB/s. Commit {head['commit']}. Samples dropped because others used "
        f"the machine: {dropped}.\n\n{table(rows)}\n{parts}\n"
    )
    write(out, BENCH, head, rows, text)
    print(text)


if __name__ == "__main__":
    main()
