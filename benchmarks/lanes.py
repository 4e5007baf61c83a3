"""What lanes cost: eight seeds as one program against eight runs one after another.

    python -m benchmarks.lanes [--out=DIR] [--quick] [--case=REGEX] [--singles=2] [--busy=0.1]

8-lanes-vs-8-runs: the wall time of `experiments.lanes --seeds=8` over that of eight
`experiments.train`, as processes: start-up, compilation (no cache), input, evaluation and
checkpoints included. Both find the data prepared and the texts encoded. Of the eight single runs
`--singles` are made, evenly among the seeds, and their median counts eight times; 8 makes all.
8-lanes-step: a step of 8 lanes over a step of one run.

The configuration is the quickstart's with fewer events. Run it on an idle machine.
"""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import commit, describe, others_share, ticks, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import Spread, ratio, spread
from benchmarks.turns import Entry, Worker, interleave

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/lanes-benchmark", "Folder for lanes.json and lanes.md.")
flags.DEFINE_string("case", "", "Regular expression: only the cases that it is found in.")
flags.DEFINE_bool("quick", False, "No texts, fewer steps and samples, in about a minute.")
flags.DEFINE_integer("singles", 2, "How many of the eight single runs are timed.", 1, 8)
flags.DEFINE_float("busy", 0.1, "Samples during which others had more of the machine are dropped.")

BENCH, LANES = "lanes", 8
WHOLE, STEP = "8-lanes-vs-8-runs", "8-lanes-step"
CONFIG = "experiments/configs/quickstart.py"
ONE = "train.steps=1"
QUIET = {"JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONUNBUFFERED": "1"}
HERE = Path(__file__).resolve().parents[1]


def folder(out: Path, quick: bool) -> Path:
    """Of the prepared data."""
    return out / ("data-quick" if quick else "data")


def changes(out: Path, quick: bool) -> list[str]:
    """Overrides of the quickstart."""
    less = ["train.steps=12", "encoder.folder=", "encoder.centre=False"]
    return [
        "data.world.events=6000",
        f"data.prepared={(folder(out, quick) / 'prepared').absolute()}",
        "train.patience=0",
        *(less if quick else ["train.epochs=12"]),
    ]


def script(name: str, out: Path, sets: Sequence[str], *more: str) -> tuple[float, float]:
    """Runs experiments.NAME; (its seconds, share of the machine that others had)."""
    command = [sys.executable, "-m", f"experiments.{name}", f"--config={CONFIG}", *more]
    command += [f"--set={s}" for s in sets]
    env = {**os.environ, **QUIET, "PYTHONPATH": str(HERE)}
    before, used = ticks([]), _children()
    began = time.perf_counter()
    with (out / "scripts.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=env, cwd=HERE)
    took = time.perf_counter() - began
    after = ticks([])
    mine = (_children() - used) * os.sysconf("SC_CLK_TCK")
    share = (others_share(before, after) * (after.total - before.total) - mine) / (
        after.total - before.total
    )
    return took, max(share, 0.0)


def _children() -> float:
    """Processor seconds of all processes that have ended and that were ours."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def end_to_end(out: Path, quick: bool, singles: int, busy: float) -> tuple[Row, dict[str, Any]]:
    """The first case."""
    sets = changes(out, quick)
    first = f"--workdir={folder(out, quick)}"  # prepares, and encodes
    script(*(("prepare", out, sets, first) if quick else ("train", out, [*sets, ONE], first)))
    seeds = np.linspace(0, LANES - 1, singles + 1)[:-1].astype(int).tolist()
    half = (singles + 1) // 2
    stamp = time.time_ns()  # a folder of its own, so that nothing is resumed

    def alone(seed: int) -> tuple[float, float]:
        workdir = f"--workdir={out / 'runs' / f'{stamp}-{seed}'}"
        return script("train", out, [*sets, f"train.seed={seed}"], workdir)

    runs = [alone(seed) for seed in seeds[:half]]
    lanes = script(
        "lanes", out, sets, f"--workdir={out / 'runs' / f'{stamp}-lanes'}", f"--seeds={LANES}"
    )
    runs += [alone(seed) for seed in seeds[half:]]
    kept = [t for t, share in runs if share <= busy]
    dropped = len(runs) - len(kept) + (lanes[1] > busy)
    others = [lanes[1], *(share for _, share in runs)]
    about: dict[str, Any] = {"lanes_s": lanes[0], "run_s": [t for t, _ in runs], "others": others}
    if not kept or lanes[1] > busy:
        row = Row(BENCH, WHOLE, "overhead", None, 0.9, "busy machine")
        return row, {**about, "dropped": dropped}
    whole = LANES * float(np.median(kept))
    if len(runs) == len(kept) == LANES:
        whole = sum(kept)
    around = [lanes[0] / (LANES * t) for t in kept]
    value = Spread(lanes[0] / whole, min(around), max(around), len(kept))
    more = {"ours_ms": 1e3 * lanes[0], "base_ms": 1e3 * whole, **about}
    row = Row(BENCH, WHOLE, "overhead", value, 0.9, more=more)
    return row, {**about, "dropped": dropped}


def opened(out: Path, quick: bool) -> dict[str, Any]:
    """What the worker is to open."""
    return {"config": CONFIG, "changes": changes(out, quick), "workdir": str(folder(out, quick))}


def steps(worker: Worker, backend: str, quick: bool, busy: float) -> tuple[list[Row], int]:
    """The second case, the way that the backend takes and the others; (rows, dropped)."""
    own = "turns" if backend == "cpu" else "side by side"
    others = [] if quick else [w for w in ("turns", "side by side", "alone") if w != own]
    compiling = {
        name: worker.call("prepare", name=name, how=name, count=LANES)
        for name in ("run", own, *others)
    }
    entries = [Entry(n, worker, {"name": n}, 8 if n == "run" else 2) for n in compiling]
    got = interleave(entries, 3 if quick else 5, [worker.pid], busy)
    base = [t for t in got.seconds["run"] if t is not None]
    rows = []
    for name in (own, *others):
        value = ratio(got.seconds[name], got.seconds["run"])
        times = [t for t in got.seconds[name] if t is not None]
        more = {"compile_s": compiling[name], "run_compile_s": compiling["run"]}
        if value:
            more |= {"ours_ms": 1e3 * spread(times).median, "base_ms": 1e3 * spread(base).median}
        case, wanted = STEP if name == own else f"{STEP}, {name}", None
        if name == own and backend != "cpu":
            wanted = 1.5
        missing = "" if value else "busy machine"
        rows.append(Row(BENCH, case, "overhead", value, wanted, missing, more=more))
    return rows, got.dropped


def main(argv: list[str]) -> None:
    del argv
    out = Path(FLAGS.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("processes, one after another", total=2)
        rows: list[Row] = []
        about: dict[str, Any] = {"dropped": 0}
        if re.search(FLAGS.case, WHOLE):
            singles = 1 if FLAGS.quick else FLAGS.singles
            row, about = end_to_end(out, FLAGS.quick, singles, FLAGS.busy)
            rows.append(row)
        bar.update(task, advance=1, description="steps")
        command = [sys.executable, "-m", "benchmarks.lanes_steps"]
        with Worker("steps", command, out / "steps.log", {**QUIET, "PYTHONPATH": str(HERE)}) as w:
            peak = w.call("peak")
            backend = w.call("open", **opened(out, FLAGS.quick))
            if re.search(FLAGS.case, STEP):
                found, dropped = steps(w, backend, FLAGS.quick, FLAGS.busy)
                rows, about["dropped"] = rows + found, about["dropped"] + dropped
        bar.advance(task)
    head = {
        "machine": describe(),
        "versions": versions(("jax", "jaxlib", "flax", "optax")),
        "commit": commit(),
        "backend": backend,
        "peak": peak,
        "config": [CONFIG, *changes(out, FLAGS.quick)],
        "dropped": about.pop("dropped"),
        "end_to_end": about,
    }
    text = text_of(head, rows)
    write(out, BENCH, head, rows, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def text_of(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """The Markdown page."""
    m, p = head["machine"], head["peak"]
    return "\n".join(
        [
            f"# What lanes cost\n\n{m['processor']}, {m['cores']} cores, {head['backend']}; "
            f"{p['gflops']:.0f} GF/s in a matrix product, {p['gbytes']:.1f} GB/s, in this run.",
            "Versions: " + ", ".join(f"{k} {v}" for k, v in head["versions"].items()) + ".",
            f"Commit {head['commit']}. Samples dropped because others used the machine: "
            f"{head['dropped']}.\n",
            table(rows),
        ]
    )


if __name__ == "__main__":
    app.run(main)
