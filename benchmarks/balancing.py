"""What balancing by task gradients costs: our step, and TorchJD's and LibMTL's on the same model.

python -m benchmarks.balancing --out=DIR [--quick] [--case=REGEX]
    [--peer_python=PATH] [--libmtl=PATH] [--busy=0.1]

The peers are no dependencies: `pip install "torchjd[full]==0.18.0"` and a clone of
median-research-group/LibMTL (4336804), whose solvers want cvxpy, ecos, qpsolvers and quadprog.
They may live in an environment of their own (--peer_python). Run it on an idle machine.
"""

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import balancing_floor as floor
from benchmarks.balancing_cases import Plan, Ratio, plans
from benchmarks.balancing_data import batches, distinct
from benchmarks.machine import describe, ticks, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import Spread, ratio, spread
from benchmarks.turns import Entry, Samples, Unavailable, Worker, interleave

BENCH, SAMPLE, LONGEST = "balancing", 0.3, 20.0
FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Folder for balancing.json and balancing.md.", required=True)
flags.DEFINE_string("case", "", "Regular expression: only the cases that it is found in.")
flags.DEFINE_bool("quick", False, "A subset, in about two minutes.")
flags.DEFINE_string("peer_python", sys.executable, "Interpreter that has torch and torchjd.")
flags.DEFINE_string("libmtl", "", "A clone of median-research-group/LibMTL.")
flags.DEFINE_float("busy", 0.1, "Samples during which others had more of the machine are dropped.")

Say = Callable[[str], None]


class Bench:
    """Both workers, what was found so far, and what could not be had."""

    def __init__(self, ours: Worker, theirs: Worker, say: Say, busy: float, quick: bool) -> None:
        self.ours, self.theirs, self.say = ours, theirs, say
        self.busy, self.quick = busy, quick
        self.pids = (ours.pid, theirs.pid)
        self.rows: list[Row] = []
        self.missing: dict[str, str] = {}
        self.best: dict[tuple[str, str], list[list[Any]]] = {}
        self.tuning: dict[str, Any] = {}
        self.dropped: dict[str, int] = {}
        self.busiest = 0.0
        self.summed: float | None = None  # seconds of our summed step at T = 8, 200k
        self.peak = self._peak()

    def _peak(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for worker in (self.ours, self.theirs) * 2:
            try:
                got = worker.call("peak")
            except Unavailable as error:
                self.missing[worker.name] = str(error)
                continue
            old = found.get(worker.name, got)
            found[worker.name] = {k: max(v, old[k]) for k, v in got.items()}
        best = {k: max(f[k] for f in found.values()) for k in ("gflops", "gbytes")}
        return {**found, "best": best}

    def world(self, plan: Plan) -> None:
        """Opens, checks, prepares and times all that a world has, and makes its rows."""
        where = f"T{plan.world.tasks}-{plan.world.rows}"
        self.say(f"{where}: opening")
        shape = {"tasks": plan.world.tasks, "rows": plan.world.rows}
        mine = self.ours.call("open", **shape)
        if plan.theirs:
            try:
                yours = self.theirs.call("open", **shape)
                if not np.allclose(mine, yours, rtol=1e-4, atol=0):
                    raise AssertionError(f"{where}: the models differ: {mine} and {yours}")
            except Unavailable as error:
                self.missing |= {t.name: str(error) for t in plan.theirs}
                plan = dataclasses.replace(plan, theirs=[])
        entries = [*self._ours(plan, where), *self._theirs(plan, where)]
        self.say(f"{where}: timing {len(entries)} steps")
        rounds = 3 if self.quick or plan.world.rows > 1_000_000 else 7
        got = interleave(entries, rounds, self.pids, self.busy)
        self.dropped[where] = got.dropped
        self.busiest = max(self.busiest, got.busiest)
        if where == "T8-200000" and (times := _known(got.seconds.get("ew", []))):
            self.summed = float(np.median(times))
        self.rows += [self._row(r, plan, got) for r in plan.rows]

    def _ours(self, plan: Plan, where: str) -> list[Entry]:
        entries, made = [], {}
        for o in plan.ours:
            key = (o.method, o.level, o.gram_every)
            try:
                if key not in made:
                    made[key] = o.name
                    self.say(f"{where}: compiling {o.name}")
                    words = {"method": o.method, "level": o.level, "gram_every": o.gram_every}
                    self.ours.call("prepare", name=o.name, **words)
                words = {"name": made[key], "loader": o.loader}
                few = o.gram_every
                self.ours.call("run", steps=few, **words)
                once = self.ours.call("run", steps=few, **words) / few
            except Unavailable as error:
                self.missing[o.name] = str(error)
                continue
            steps = few * math.ceil(SAMPLE / once / few)
            entries.append(Entry(o.name, self.ours, words, steps))
        return entries

    def _theirs(self, plan: Plan, where: str) -> list[Entry]:
        entries = []
        for t in plan.theirs:
            self.say(f"{where}: tuning {t.name}")
            key = (t.kind, t.method)
            words = {"only": self.best.get(key), "fuse": key not in self.best}
            try:
                got = self.theirs.call(
                    "prepare", name=t.name, kind=t.kind, method=t.method, **words
                )
            except Unavailable as error:
                self.missing[f"{where} {t.name}"] = str(error)
                continue
            done = [x[:3] for x in got["tried"] if not isinstance(x[3], str)]
            self.best.setdefault(key, done[:2])
            self.tuning[f"{where} {t.name}"] = got["tried"]
            steps = max(1, math.ceil(SAMPLE / got["seconds"]))
            entries.append(Entry(t.name, self.theirs, {"name": t.name}, steps))
        return entries

    def _row(self, r: Ratio, plan: Plan, got: Samples) -> Row:
        above, below = got.seconds.get(r.above), got.seconds.get(r.below)
        where = f"T{plan.world.tasks}-{plan.world.rows}"
        about: dict[str, Any] = {"T": plan.world.tasks, "V": plan.world.rows}
        if above is None or below is None:
            name = r.above if above is None else r.below
            why = self.missing.get(f"{where} {name}") or self.missing.get(name, "not measured")
            return Row(BENCH, r.case, _kind(r), None, r.wanted, why, more=about)
        value = ratio(above, below)
        if value is None:
            why = "others used the machine during every sample"
            return Row(BENCH, r.case, _kind(r), None, r.wanted, why, more=about)
        ours, base = (below, above) if r.kind == "speedup" else (above, below)
        mine = float(np.median(_known(ours)))
        about |= {"ours_ms": 1e3 * mine, "base_ms": 1e3 * float(np.median(_known(base)))}
        if r.kind == "speedup":
            variant, threads, fused, _ = self.tuning[f"{where} {r.above}"][0]
            about |= {"variant": variant, "threads": threads, "compiled": fused}
        least = None
        if r.level:
            touched = distinct(batches(plan.world)[0])
            n = len(touched["uniq/user"]) + len(touched["uniq/item"])
            least = mine / floor.seconds(plan.world, r.level, n, **self.peak["best"])
        return Row(BENCH, r.case, _kind(r), value, r.wanted, "", least, about)

    def solvers(self, tasks: tuple[int, ...]) -> None:
        """Time of every Gram method's update over our summed step's at T = 8."""
        if self.summed is None:
            return
        for method in self.ours.call("gram_methods"):
            for T in tasks:
                self.say(f"solver {method}, T = {T}")
                case, wanted = f"solver-{method}-T{T}", 0.02 if T == 8 else None
                try:
                    found = self._quiet("solver", method=method, tasks=T)
                except Unavailable as error:
                    self.rows.append(Row(BENCH, case, "share", None, wanted, str(error)))
                    continue
                value = spread([s / self.summed for s in found])
                more = {"ours_ms": 1e3 * float(np.median(found)), "base_ms": 1e3 * self.summed}
                self.rows.append(Row(BENCH, case, "share", value, wanted, more={"T": T, **more}))

    def _quiet(self, do: str, times: int = 5, **words: Any) -> list[float]:
        """Values of undisturbed calls, or of all where there were none."""
        found, all_of_them = [], []
        for _ in range(times):
            before = ticks(self.pids)
            all_of_them.append(float(self.ours.call(do, **words)))
            after = ticks(self.pids)
            if after.busy - before.busy - sum(after.own.values()) + sum(before.own.values()) <= (
                self.busy * (after.total - before.total) + 1
            ):
                found.append(all_of_them[-1])
        return found or all_of_them

    def compiling(self, tasks: tuple[int, ...]) -> None:
        """Compile time at level shared against the number of tasks, and of the summed step."""
        found: dict[tuple[str, int], list[float]] = {}
        for method, level in (("upgrad", "shared"), ("ew", "representation")):
            for T in tasks:
                self.say(f"compiling {method} at T = {T}")
                words = {"method": method, "level": level, "tasks": T}
                found[level, T] = self._quiet("compile", times=1 if self.quick else 2, **words)
        first = found["shared", tasks[0]]
        for T in tasks:
            took, summed = found["shared", T], found["representation", T]
            value = spread([x / y for x in took for y in first])
            more = {"T": T, "ours_ms": 1e3 * min(took), "base_ms": 1e3 * min(first)}
            more |= {"summed_ms": 1e3 * min(summed), "over_summed": min(took) / min(summed)}
            wanted = 8.0 if T == 16 else None
            self.rows.append(Row(BENCH, f"compile-T{T}", "growth", value, wanted, more=more))


def _kind(r: Ratio) -> Any:
    return r.kind


def _known(values: list[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def worst_representation(rows: list[Row]) -> list[Row]:
    """`representation-T<T>`: the method that costs most there."""
    found: dict[str, Row] = {}
    for r in rows:
        m = re.fullmatch(r"(representation-T\d+)-(\w+)", r.case)
        if m and r.value is not None:
            old = found.get(m[1])
            if old is None or _median(old.value) < r.value.median:
                more = {**r.more, "method": m[2]}
                found[m[1]] = dataclasses.replace(r, case=m[1], more=more)
    return list(found.values())


def _median(value: Spread | None) -> float:
    return -math.inf if value is None else value.median


def choose(wanted: str, quick: bool) -> list[Plan]:
    """The plans, cut down to the cases that `wanted` is found in and the entries that they need."""
    kept = []
    for p in plans(quick):
        rows = [r for r in p.rows if re.search(wanted, r.case)]
        needed = {n for r in rows for n in (r.above, r.below)}
        solver = bool(re.search(wanted, "solver-")) and p.world.tasks == 8
        if solver and p.world.rows == 200_000:
            needed.add("ew")
        if needed:
            ours = [o for o in p.ours if o.name in needed]
            theirs = [t for t in p.theirs if t.name in needed]
            kept.append(dataclasses.replace(p, ours=ours, theirs=theirs, rows=rows))
    return kept


def commit() -> str:
    """The checkout's commit, "+" where files differ from it."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


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
        bench.world(plan)
        tell()
    if re.search(wanted, "solver-"):
        bench.solvers((8,) if quick else (2, 8, 32))
    tell()
    if re.search(wanted, "compile-T"):
        bench.compiling((2, 16) if quick else (2, 4, 8, 16, 32))
    tell()


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
        measure(bench, FLAGS.case, FLAGS.quick, lambda: bar.advance(task))
        found = versions(("jax", "jaxlib", "optax"))
        if "theirs" not in bench.missing:
            found |= theirs.call("about")
    rows = sorted(
        [*bench.rows, *worst_representation(bench.rows)], key=lambda r: re.split(r"(?=\d)", r.case)
    )
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
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app.run(main)
