"""Input: a packed batch against torch's DataLoader, and the time a training waits for batches.

python -m benchmarks.pipeline [--out=DIR] [--quick] [--case=REGEX] [--ml1m=FOLDER]
    [--peer_python=PATH] [--busy=0.1]

torch-dataloader: the same batches (512 rows, histories of 50, texts packed to rows of 128) by our
stream and by a map-style Dataset with a collate function, in 0, 1 and 2 workers each, the best
taken. waiting-*: the share of `input_wait` in the lines of a short training after the first, whose
time is the start-up's. Run it on an idle machine.
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peak
from benchmarks.machine import commit, describe, others_share, ticks, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import ratio, spread
from benchmarks.turns import Unavailable, Worker

BENCH = "pipeline"
HERE = Path(__file__).resolve().parents[1]
WORKERS = (0, 1, 2)
ML1M = HERE.parent / "shared" / "data" / "ml-1m-collm"
# Of the configuration's own rows an epoch, as many steps as make a dozen lines.
STEPS, LOG_EVERY = 260, 20


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    quick: bool
    busy: float
    peer_python: str
    ml1m: Path


def dataloader(o: Options, known: dict[str, peak.Peak], dropped: dict[str, int]) -> Row:
    """Our stream against the DataLoader, in turns."""
    events, rounds, steps = (30_000, 5, 20) if o.quick else (100_000, 11, 60)
    case, wanted = "torch-dataloader", 3.0
    quiet = {"PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1"}
    world: dict[str, Any] = {"folder": str(o.out / f"world-{events}"), "events": events}
    mine = [sys.executable, "-m", "benchmarks.pipeline_ours"]
    yours = [o.peer_python, "-m", "benchmarks.pipeline_torch"]
    with (
        Worker("ours", mine, o.out / "pipeline_ours.log", quiet) as ours,
        Worker("torch", yours, o.out / "pipeline_torch.log", quiet) as theirs,
    ):
        about = ours.call("open", **world)
        try:
            about |= theirs.call("open", **world)
        except Unavailable as error:
            return Row(BENCH, case, "speedup", None, wanted, str(error))
        for step in (0, 3, 7):
            a, b = ours.call("look", step=step), theirs.call("look", step=step)
            if a.keys() != b.keys() or not all(np.isclose(a[k], b[k], rtol=1e-5) for k in a):
                raise AssertionError(f"batch {step} differs: {a} and {b}")
        about["tokens"] = a["tokens"]
        pids, found = [ours.pid, theirs.pid], dict[tuple[str, int], list[float | None]]()
        for n in WORKERS:
            ours.call("prepare", workers=n)
            pids += theirs.call("prepare", workers=n)
            for worker in (ours, theirs):
                worker.call("run", workers=n, steps=10)  # what was built ahead is used up
                found[worker.name, n] = []
        peak.of_workers((ours, theirs), known)
        dropped[case] = 0
        for r in range(rounds):
            pairs = [(w, n) for n in WORKERS for w in (ours, theirs)]
            for worker, n in pairs if r % 2 == 0 else reversed(pairs):
                before = ticks(pids)
                took = worker.call("run", workers=n, steps=steps) / steps
                calm = others_share(before, ticks(pids)) <= o.busy
                dropped[case] += not calm
                found[worker.name, n].append(took if calm else None)
        peak.of_workers((ours, theirs), known)
    mid = {k: float(np.median(t)) for k, v in found.items() if (t := [x for x in v if x])}
    best = {
        name: min((k for k in mid if k[0] == name), key=lambda k: mid[k], default=None)
        for name in ("ours", "torch")
    }
    mine_is, yours_is = best["ours"], best["torch"]
    if mine_is is None or yours_is is None:
        return Row(BENCH, case, "speedup", None, wanted, "others used the machine all the time")
    more = {"ours_ms": 1e3 * mid[mine_is], "base_ms": 1e3 * mid[yours_is], **about}
    more |= {f"{name}_{n}_workers_ms": 1e3 * v for (name, n), v in sorted(mid.items())}
    more |= {"workers": mine_is[1], "torch_workers": yours_is[1]}
    return Row(BENCH, case, "speedup", ratio(found[yours_is], found[mine_is]), wanted, more=more)


def waiting(name: str, config: str, overrides: list[str], o: Options) -> Row:
    """A short training; its lines but the first."""
    case, wanted = f"waiting-{name}", 0.02
    workdir = o.out / f"training-{name}"
    for left in (workdir / "metrics.jsonl", workdir / "checkpoints"):
        subprocess.run(["rm", "-rf", str(left)], check=True)
    steps = STEPS // 2 if o.quick else STEPS
    sets = [f"train.steps={steps}", f"train.log_every={LOG_EVERY}", "train.eval_part="]
    command = [
        sys.executable, "-m", "experiments.train", f"--config={config}", f"--workdir={workdir}",
        f"--compilation_cache={o.out / 'compiled'}",
        *(f"--set={s}" for s in (*sets, "train.monitor=", *overrides)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Row(BENCH, case, "share", None, wanted, last[:200])
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    told = [x for x in lines if x["kind"] == "train"][1:]
    each = float(np.median([x["examples_per_second"] for x in told]))
    return Row(
        BENCH, case, "share", spread([x["input_wait"] for x in told]), wanted,
        more={"examples_per_second": each, "steps": steps, "largest": max(
            x["input_wait"] for x in told
        )},
    )  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/pipeline", help="folder for pipeline.json and .md")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--case", default="", help="only the cases that this is found in")
    parser.add_argument("--ml1m", default=str(ML1M), help="folder of MovieLens-1M as CoLLM cut it")
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--busy", type=float, default=0.1, help="what others may use in a sample")
    a = parser.parse_args()
    out = Path(a.out).resolve()
    o = Options(out, a.quick, a.busy, a.peer_python, Path(a.ml1m).resolve())
    out.mkdir(parents=True, exist_ok=True)
    known: dict[str, peak.Peak] = {}
    dropped: dict[str, int] = {}
    cases = {
        "torch-dataloader": lambda: dataloader(o, known, dropped),
        "waiting-ml1m": lambda: waiting(
            "ml1m", "experiments/configs/ml1m.py", [f"data.folder={o.ml1m}"], o
        ),
        "waiting-quickstart": lambda: waiting(
            "quickstart", "experiments/configs/quickstart.py", [], o
        ),
    }
    rows = [measure() for name, measure in cases.items() if re.search(a.case, name)]
    m = describe()
    head = {
        "machine": m, "versions": versions(("jax", "numpy", "grain", "torch")),
        "commit": commit(), "peak": known, "dropped": dropped,
    }  # fmt: skip
    best = known.get("best", {})
    rates = ", ".join(f"{v:.0f} {k}" for k, v in best.items())
    text = (
        f"# Input\n\n{m['processor']}, {m['cores']} cores; {rates}. Commit {head['commit']}. "
        f"Samples dropped because others used the machine: {sum(dropped.values())}.\n\n"
        f"{table(rows)}"
    )
    write(out, BENCH, head, rows, text)
    print(text)


if __name__ == "__main__":
    main()
