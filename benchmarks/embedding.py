"""What a training step on a large embedding table costs, against its size and against torch.

python -m benchmarks.embedding [--out=DIR] [--quick] [--busy=0.1]

A step touches 40,960 distinct rows of 64 through 81,920 look-ups, whatever the table's length. The
floor reads and writes these rows of the table and of two moments, in place, and does nothing else.
Against torch, our time has the host's search for the distinct rows in it. Run it on an idle machine
with 16 GiB free.
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console

from benchmarks import peak
from benchmarks.machine import commit, describe, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import ratio, spread
from benchmarks.turns import Entry, Samples, Unavailable, Worker, interleave

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/embedding", "Folder for embedding.json and embedding.md.")
flags.DEFINE_bool("quick", False, "Fewer sizes and rounds, in less than a minute.")
flags.DEFINE_float("busy", 0.1, "Samples during which others had more of the machine are dropped.")

BENCH, SAMPLE = "embedding", 0.3  # seconds that a sample lasts at least
SIZES = {"100k": 100_000, "1M": 1_000_000, "5M": 5_000_000}
SMALL, LARGE = "100k", "5M"
WANTED = {"sparse-adam": 1.2, "dense-adam": 8.0}  # at the largest
PEERS = {"sparse-adam": "sparse", "adagrad": "adagrad", "dense-adam": "dense"}


class Bench:
    """Both workers and what was found so far."""

    def __init__(self, ours: Worker, theirs: Worker, quick: bool, busy: float) -> None:
        self.ours, self.theirs, self.quick, self.busy = ours, theirs, quick, busy
        self.rows: list[Row] = []
        self.memory: dict[str, Any] = {}
        self.tuning: dict[str, Any] = {}
        self.losses: dict[str, float] = {}
        self.dropped, self.busiest = 0, 0.0
        self.floor: dict[str, float] = {}
        self.sizes = {k: n for k, n in SIZES.items() if not quick or k in (SMALL, LARGE)}

    def open(self) -> None:
        """All of our worlds: they fit beside one of torch's."""
        for size, n in self.sizes.items():
            self.losses[size] = self.ours.call("open", rows=n)
            for what in ("floor", "adam", "adagrad"):
                told = self.ours.call("prepare", rows=n, what=what)
                self.memory[f"{what}-{size}"] = told

    def entry(self, what: str, size: str, loader: bool = False) -> Entry:
        """A program of ours, in samples that are long enough."""
        words = {"rows": self.sizes[size], "what": what, "loader": loader}
        once = self.ours.call("run", steps=2, **words) / 2
        return Entry(f"{what}-{size}", self.ours, words, max(1, math.ceil(SAMPLE / once)))

    def time(self, entries: list[Entry]) -> Samples:
        """In turns."""
        rounds = 3 if self.quick else 7
        pids = (self.ours.pid, self.theirs.pid)
        got = interleave(entries, rounds, pids, self.busy)
        self.dropped += got.dropped
        self.busiest = max(self.busiest, got.busiest)
        return got

    def growth(self) -> None:
        """Our step's growth with the table, over that of the floor, for both optimisers."""
        whats = ("floor", "adam", "adagrad")
        got = self.time([self.entry(w, s) for w in whats for s in self.sizes]).seconds
        for size in self.sizes:
            known = [x for x in got[f"floor-{size}"] if x is not None]
            if known:
                self.floor[size] = float(np.median(known))
        for size in [s for s in self.sizes if s != SMALL]:
            floors = each(got[f"floor-{size}"], got[f"floor-{SMALL}"])
            for what in ("adam", "adagrad"):
                mine = each(got[f"{what}-{size}"], got[f"{what}-{SMALL}"])
                case = f"{size}-vs-{SMALL}" + ("" if what == "adam" else f"-{what}")
                more = {
                    "ours_growth": median(mine),
                    "floor_growth": median(floors),
                    "ours_ms": 1e3 * median(got[f"{what}-{size}"]),
                    "base_ms": 1e3 * median(got[f"{what}-{SMALL}"]),
                    "floor_ms": 1e3 * median(got[f"floor-{size}"]),
                }
                wanted = 1.2 if case == f"{LARGE}-vs-{SMALL}" else None
                self.add(case, "growth", ratio(mine, floors), wanted, size, more)

    def against(self, size: str) -> None:
        """Our step with the loader's search, and torch's, at one size."""
        try:
            loss = self.theirs.call("open", rows=self.sizes[size])
            if not np.isclose(loss, self.losses[size], rtol=1e-4):
                raise AssertionError(f"the models differ: {self.losses[size]} and {loss}")
        except Unavailable as error:
            self.rows += [
                Row(BENCH, named(c, size), "speedup", None, wanted_of(c, size), str(error))
                for c in PEERS
            ]
            return
        self.compare(size, ["sparse-adam", "adagrad"])
        if not self.quick or size == LARGE:
            self.compare(size, ["dense-adam"])

    def compare(self, size: str, cases: list[str]) -> None:
        """Cases whose optimisers torch holds in memory together."""
        mine = dict.fromkeys("adagrad" if c == "adagrad" else "adam" for c in cases)
        entries, there = [self.entry(w, size, loader=True) for w in mine], []
        for case in cases:
            try:
                got = self.theirs.call("prepare", name=case, what=PEERS[case])
            except Unavailable as error:
                wanted = wanted_of(case, size)
                row = Row(BENCH, named(case, size), "speedup", None, wanted, str(error))
                self.rows.append(row)
                continue
            self.tuning[named(case, size)] = got["tried"]
            steps = max(1, math.ceil(SAMPLE / got["seconds"]))
            entries.append(Entry(case, self.theirs, {"name": case}, steps))
            there.append(case)
        seconds = self.time(entries).seconds
        for case in there:
            what = "adagrad" if case == "adagrad" else "adam"
            above, below = seconds[case], seconds[f"{what}-{size}"]
            way, threads, _ = self.tuning[named(case, size)][0]
            more = {"ours_ms": 1e3 * median(below), "base_ms": 1e3 * median(above)}
            more |= {"variant": way, "threads": threads}
            wanted = wanted_of(case, size)
            self.add(named(case, size), "speedup", ratio(above, below), wanted, size, more)
        for case in cases:
            self.theirs.call("forget", name=case)

    def add(
        self, case: str, kind: Any, value: Any, wanted: float | None, size: str, more: Any
    ) -> None:
        """A row; its floor_ratio is our time over the floor's at that size."""
        least = more["ours_ms"] / (1e3 * self.floor[size]) if size in self.floor else None
        why = "" if value is not None else "others used the machine during every sample"
        self.rows.append(Row(BENCH, case, kind, value, wanted, why, least, more))


def named(case: str, size: str) -> str:
    """The case itself at the largest size."""
    return case if size == LARGE else f"{case}-{size}"


def wanted_of(case: str, size: str) -> float | None:
    """Bounds are for the largest size."""
    return WANTED.get(case) if size == LARGE else None


def each(above: list[float | None], below: list[float | None]) -> list[float | None]:
    """Ratios round by round, None where one was dropped."""
    pairs = zip(above, below, strict=True)
    return [None if a is None or b is None else a / b for a, b in pairs]


def median(values: list[float | None]) -> float:
    """Of those that were measured; NaN of none."""
    known = [v for v in values if v is not None]
    return spread(known).median if known else math.nan


def text_of(head: dict[str, Any], rows: list[Row]) -> str:
    """The Markdown page."""
    m, best = head["machine"], head["peak"]["best"]
    kept = [r.met for r in rows if r.met is not None]
    lines = [
        f"# What large embedding tables cost\n\n{m['processor']}, {m['cores']} cores, "
        f"{m['vector']}; {best['gflops']:.0f} GF/s in a matrix product, {best['gbytes']:.1f} GB/s, "
        "in this run.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in head["versions"].items()) + ".",
        f"Commit {head['commit']}. Samples dropped because others used the machine: "
        f"{head['dropped']}; wanted bounds kept: {sum(kept)} of {len(kept)}. Growth is ours over "
        "the floor's.\n",
        table(rows),
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    del argv
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PYTHONUNBUFFERED": "1"}
    mine = {**here, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    yours = {**here, "KMP_BLOCKTIME": "0"}
    command = [sys.executable, "-m"]
    console = Console()
    with (
        Worker("ours", [*command, "benchmarks.embedding_ours"], out / "ours.log", mine) as ours,
        Worker(
            "theirs", [*command, "benchmarks.embedding_theirs"], out / "theirs.log", yours
        ) as theirs,
        console.status("opening") as status,
    ):
        bench = Bench(ours, theirs, FLAGS.quick, FLAGS.busy)
        found = versions(("jax", "jaxlib", "optax")) | theirs.call("about")
        best: dict[str, peak.Peak] = {}
        peak.of_workers((ours, theirs), best)
        bench.open()
        status.update("growth")
        bench.growth()
        for size in bench.sizes:
            status.update(f"against torch, {size} rows")
            bench.against(size)
        peak.of_workers((ours, theirs), best)
        head = {
            "machine": describe(),
            "versions": found,
            "commit": commit(),
            "peak": best,
            "dropped": bench.dropped,
            "busiest": bench.busiest,
            "megabytes": bench.memory,
            "tuning": bench.tuning,
        }
    text = text_of(head, bench.rows)
    write(out, BENCH, head, bench.rows, text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app.run(main)
