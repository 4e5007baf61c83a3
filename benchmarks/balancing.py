"""What balancing by task gradients costs: our step, and TorchJD's and LibMTL's on the same model.

python -m benchmarks.balancing [--out=DIR] [--quick] [--case=REGEX]
    [--peer_python=PATH] [--libmtl=PATH] [--busy=0.1]

The peers are no dependencies: `pip install "torchjd[full]==0.18.0"` and a clone of
median-research-group/LibMTL (4336804), whose solvers want cvxpy, ecos, qpsolvers and quadprog.
They may live in an environment of their own (--peer_python). Run it on an idle machine.
"""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.balancing_bench import BENCH, Bench, worst_representation
from benchmarks.balancing_cases import Plan, plans
from benchmarks.balancing_data import World
from benchmarks.machine import commit, describe, versions
from benchmarks.report import Row, table, write
from benchmarks.turns import Unavailable, Worker

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/balancing", "Folder for balancing.json and balancing.md.")
flags.DEFINE_string("case", "", "Regular expression: only the cases that it is found in.")
flags.DEFINE_bool("quick", False, "A subset, in about two minutes.")
flags.DEFINE_string("peer_python", sys.executable, "Interpreter that has torch and torchjd.")
flags.DEFINE_string("libmtl", "", "A clone of median-research-group/LibMTL.")
flags.DEFINE_float("busy", 0.1, "Samples during which others had more of the machine are dropped.")


def asks(wanted: str, start: str) -> bool:
    """Whether `wanted` can be found in a case that starts so."""
    return bool(re.search(wanted, start)) or wanted.lstrip("^(").startswith(start)


def choose(wanted: str, quick: bool) -> list[Plan]:
    """The plans, cut down to the cases that `wanted` is found in and the entries that they need."""
    kept = []
    for p in plans(quick):
        rows = [r for r in p.rows if re.search(wanted, r.case)]
        needed = {n for r in rows for n in (r.above, r.below)}
        if asks(wanted, "solver-") and p.world == World(8, 200_000):
            needed.add("ew")  # what a solver is a share of
        if needed:
            ours = [o for o in p.ours if o.name in needed]
            theirs = [t for t in p.theirs if t.name in needed]
            kept.append(dataclasses.replace(p, ours=ours, theirs=theirs, rows=rows))
    return kept


def text_of(head: dict[str, Any], rows: list[Row]) -> str:
    """The Markdown page."""
    m, best = head["machine"], head["peak"]["best"]
    kept = [r.met for r in rows if r.met is not None]
    lines = [
        f"# What balancing costs\n\n{m['processor']}, {m['cores']} cores, {m['vector']}; "
        f"{best['gflops']:.0f} GF/s in a matrix product, {best['gbytes']:.1f} GB/s, in this run.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in head["versions"].items()) + ".",
        f"Commit {head['commit']}. Samples dropped because others used the machine: "
        f"{sum(head['dropped'].values())}; wanted bounds kept: {sum(kept)} of {len(kept)}.\n",
        table(rows),
    ]
    return "\n".join(lines)


def measure(bench: Bench, wanted: str, quick: bool, tell: Callable[[], None]) -> None:
    """All that is asked for, `tell` after each part."""
    for plan in choose(wanted, quick):
        try:
            bench.world(plan)
        except Unavailable as error:  # our own worker's; the peers' are looked after inside
            bench.failed(plan, str(error))
        tell()
    if asks(wanted, "solver-"):
        bench.solvers((8,) if quick else (2, 8, 32), wanted)
    tell()
    if asks(wanted, "compile-T"):
        bench.compiling((2, 16) if quick else (2, 4, 8, 16, 32))
    tell()


def publish(bench: Bench, found: dict[str, str], out: Path) -> str:
    """Writes what has been measured so far; the page."""

    def by_number(row: Row) -> list[int | str]:
        return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", row.case)]

    rows = sorted([*bench.rows, *worst_representation(bench.rows)], key=by_number)
    head = {
        "machine": describe(),
        "versions": found,
        "commit": commit(),
        "peak": bench.peak,
        "dropped": bench.dropped,
        "busiest": bench.busiest,
        "missing": bench.missing,
        "tuning": bench.tuning,
    }
    text = text_of(head, rows)
    write(out, BENCH, head, rows, text)
    return text


def main(argv: list[str]) -> None:
    del argv
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    here = Path(__file__).resolve().parents[1]
    quiet = {"PYTHONPATH": str(here), "PYTHONUNBUFFERED": "1"}
    mine = {**quiet, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    yours = {**quiet, "KMP_BLOCKTIME": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    command = [FLAGS.peer_python, "-m", "benchmarks.balancing_theirs", FLAGS.libmtl]
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Worker(
            "ours", [sys.executable, "-m", "benchmarks.balancing_ours"], out / "ours.log", mine
        ) as ours,
        Worker("theirs", [c for c in command if c], out / "theirs.log", yours) as theirs,
        Progress(*columns, console=console) as bar,
    ):
        task = bar.add_task("starting", total=len(choose(FLAGS.case, FLAGS.quick)) + 2)
        bench = Bench(
            ours, theirs, lambda s: bar.update(task, description=s), FLAGS.busy, FLAGS.quick
        )
        found = versions(("jax", "jaxlib", "optax")) | theirs.call("about")

        def tell() -> None:
            publish(bench, found, out)  # what there is, should a later part fail
            bar.advance(task)

        measure(bench, FLAGS.case, FLAGS.quick, tell)
    console.print(publish(bench, found, out), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app.run(main)
