"""What lanes cost: eight seeds as one program against eight runs one after another.

    python -m benchmarks.lanes [--out=DIR] [--quick] [--singles=2] [--busy=0.1]

8-lanes-vs-8-runs: the wall time of `experiments.lanes --seeds=8` over that of eight
`experiments.train`, as processes: start-up, compilation (no cache), input, evaluation and
checkpoints included. Both find the data prepared and the texts encoded. Of the eight single runs
`--singles` are made, evenly among the seeds, and their median counts eight times; 8 makes all.
8-lanes-step: a step of 8 lanes over a step of one run.

The configuration is the quickstart's with fewer events. Run it on an idle machine.
"""

import os
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
flags.DEFINE_bool("quick", False, "Fewer steps and samples, in about a minute.")
flags.DEFINE_integer("singles", 2, "How many of the eight single runs are timed.", 1, 8)
flags.DEFINE_float("busy", 0.1, "Samples during which others had more of the machine are dropped.")

BENCH, LANES = "lanes", 8
CONFIG = "experiments/configs/quickstart.py"
QUIET = {"JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONUNBUFFERED": "1"}
HERE = Path(__file__).resolve().parents[1]


def changes(out: Path, quick: bool) -> list[str]:
    """Overrides of the quickstart."""
    steps = ["train.steps=12"] if quick else ["train.epochs=6"]
    return [
        "data.world.events=6000",
        f"data.prepared={(out / 'data' / 'prepared').absolute()}",
        "train.patience=0",
        *steps,
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
    script("train", out, [*sets, "train.steps=1"], f"--workdir={out / 'data' / 'first'}")
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
        row = Row(BENCH, f"{LANES}-lanes-vs-{LANES}-runs", "overhead", None, 0.9, "busy machine")
        return row, {**about, "dropped": dropped}
    whole = LANES * float(np.median(kept))
    if len(runs) == len(kept) == LANES:
        whole = sum(kept)
    around = [lanes[0] / (LANES * t) for t in kept]
    value = Spread(lanes[0] / whole, min(around), max(around), len(kept))
    more = {"ours_ms": 1e3 * lanes[0], "base_ms": 1e3 * whole, **about}
    row = Row(BENCH, f"{LANES}-lanes-vs-{LANES}-runs", "overhead", value, 0.9, more=more)
    return row, {**about, "dropped": dropped}


def steps(worker: Worker, out: Path, quick: bool, busy: float) -> tuple[list[Row], str, int]:
    """The second case, the way that the backend takes and the others; (rows, backend, dropped)."""
    backend = worker.call(
        "open", config=CONFIG, changes=changes(out, quick), workdir=str(out / "data")
    )
    ways = {"run": 1, "turns": LANES, "side by side": LANES, "alone": LANES}
    if quick:
        del ways["alone"]
    own = "turns" if backend == "cpu" else "side by side"
    if quick:
        ways = {"run": 1, own: LANES}
    compiling = {n: worker.call("prepare", name=n, how=n, count=k) for n, k in ways.items()}
    entries = [Entry(n, worker, {"name": n}, 8 if n == "run" else 2) for n in ways]
    got = interleave(entries, 3 if quick else 5, [worker.pid], busy)
    rows = []
    for n in ways:
        value = ratio(got.seconds[n], got.seconds["run"]) if n != "run" else None
        times = [t for t in got.seconds[n] if t is not None]
        base = [t for t in got.seconds["run"] if t is not None]
        if n == "run":
            continue
        case = f"{LANES}-lanes-step" + ("" if n == own else f", {n}")
        more = {"compile_s": compiling[n], "run_compile_s": compiling["run"]}
        if times and base:
            more |= {"ours_ms": 1e3 * spread(times).median, "base_ms": 1e3 * spread(base).median}
        wanted = 1.5 if n == own and backend != "cpu" else None
        missing = "" if value else "busy machine"
        rows.append(Row(BENCH, case, "overhead", value, wanted, missing, more=more))
    return rows, backend, got.dropped


def main(argv: list[str]) -> None:
    del argv
    out = Path(FLAGS.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("processes, one after another", total=2)
        first, about = end_to_end(out, FLAGS.quick, FLAGS.singles, FLAGS.busy)
        bar.update(task, advance=1, description="steps")
        command = [sys.executable, "-m", "benchmarks.lanes_steps"]
        with Worker("steps", command, out / "steps.log", {**QUIET, "PYTHONPATH": str(HERE)}) as w:
            rows, backend, dropped = steps(w, out, FLAGS.quick, FLAGS.busy)
            peak = w.call("peak")
        bar.advance(task)
    head = {
        "machine": describe(),
        "versions": versions(("jax", "jaxlib", "flax", "optax")),
        "commit": commit(),
        "backend": backend,
        "peak": peak,
        "config": [CONFIG, *changes(out, FLAGS.quick)],
        "dropped": about["dropped"] + dropped,
        "end_to_end": about,
    }
    rows = [first, *rows]
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
