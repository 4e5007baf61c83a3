"""What the benchmarks against torch share: flags, workers that take turns, rows, the page.

Ours and torch compute in processes of their own, one at a time. Where the processor has AVX-512
and MKL does not use it, torch runs twice: as installed ("torch") and forced ("torch-avx512").
Modules of workers answer `peak`, `prepare(name, ...) -> {"seconds", "tried"}` and
`run(name, steps) -> seconds`.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peak as peaks
from benchmarks.machine import commit, describe, versions
from benchmarks.report import Kind, Row, table, write
from benchmarks.spread import ratio, spread
from benchmarks.turns import Entry, Samples, Unavailable, Worker, interleave

SAMPLE = 0.4  # seconds that a sample lasts at least
FORCED = "-avx512"


@dataclass(frozen=True)
class Options:
    """Flags of a benchmark. busy: share of the machine that others may have during a sample.

    case, profile: of those benchmarks that have them.
    """

    out: Path
    quick: bool = False
    suite: str = "cpu"
    peer_python: str = sys.executable
    data: str = ""
    busy: float = 0.1
    case: str = ""
    profile: bool = False


def options(
    bench: str, about: str | None, argv: Sequence[str] | None = None, cases: bool = False
) -> Options:
    """Read from the command line. cases: with --case and --profile."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"benchmarks.{bench}", description=about, formatter_class=raw)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the results")
    add("--quick", action="store_true", help="a subset, in less than a minute or two")
    add("--suite", choices=("cpu", "gpu"), default="cpu", help="rows and bounds of which device")
    add("--peer_python", default=sys.executable, help="interpreter with torch and transformers")
    add("--data", default="../shared/data/ml-1m-collm", help="folder of MovieLens as CoLLM cut it")
    add("--busy", type=float, default=0.1, help="samples in which others had more are dropped")
    if cases:
        add("--case", default="", help="regular expression: only the cases that it is found in")
        add("--profile", action="store_true", help="of our steps also each kernel's time (GPU)")
    return Options(**vars(parser.parse_args(argv)))


@dataclass
class Contest:
    """One benchmark under way: its workers, and what was found so far.

    theirs: torch as installed, then forced; may be empty.  missing: why something could not be had.
    """

    bench: str
    options: Options
    ours: Worker
    theirs: list[Worker]
    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    peak: dict[str, peaks.Peak] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    dropped: int = 0
    busiest: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def measure_peak(self) -> None:
        """Again later: the highest counts."""
        why = peaks.of_workers((self.ours, *self.theirs), self.peak)
        if why:
            self.missing["peak"] = why

    def entry(
        self, worker: Worker, name: str, least: int = 1, label: str = "", **words: Any
    ) -> Entry | None:
        """Prepares `name` in the worker, an entry "<worker> <label or name>"; None if it cannot.

        least: steps that a sample has at least.
        """
        full = f"{worker.name} {label or name}"
        self.say(f"preparing {full}")
        try:
            got = worker.call("prepare", name=name, **words)
        except Unavailable as error:
            self.missing[full] = str(error)
            return None
        self.say(f"a step takes {1e3 * got['seconds']:.4g} ms")  # should the rest be cut off
        self.tuning[full] = {k: v for k, v in got.items() if k != "seconds"}
        steps = max(least, math.ceil(SAMPLE / got["seconds"]))
        return Entry(full, worker, {"name": name}, steps)

    def turns(self, entries: Sequence[Entry | None], rounds: int) -> Samples:
        """All of them, interleaved."""
        there = [e for e in entries if e is not None]
        self.say(f"timing {len(there)} entries")
        pids = [w.pid for w in (self.ours, *self.theirs)]
        found = interleave(there, rounds, pids, self.options.busy)
        self.dropped += found.dropped
        self.busiest = max(self.busiest, found.busiest)
        self.measure_peak()
        return found

    def row(
        self,
        case: str,
        kind: Kind,
        above: str,
        below: str,
        got: Samples,
        wanted: float | None = None,
        floor: float | None = None,
        **more: Any,
    ) -> None:
        """A row of entry `above` over entry `below`. floor: the least seconds of our step."""
        ours, other = (below, above) if kind == "speedup" else (above, below)
        a, b = got.seconds.get(above), got.seconds.get(below)
        value = ratio(a, b) if a is not None and b is not None else None
        if value is None:
            absent = [self.missing[n] for n in (above, below) if n in self.missing]
            why = absent[0] if absent else "others used the machine during every sample"
            self.rows.append(Row(self.bench, case, kind, None, wanted, why, more=more))
            return
        mine, base = (float(np.median(known(got, n))) for n in (ours, other))
        more |= {"ours_ms": 1e3 * mine, "base_ms": 1e3 * base}
        least = None if floor is None else mine / floor
        self.rows.append(Row(self.bench, case, kind, value, wanted, "", least, more))

    def alone(
        self,
        case: str,
        kind: Kind,
        name: str,
        got: Samples,
        per: float,
        wanted: float | None = None,
        **more: Any,
    ) -> None:
        """A row of entry `name` against a number `per` of seconds."""
        times = known(got, name)
        if not times:
            why = self.missing.get(name, "others used the machine during every sample")
            self.rows.append(Row(self.bench, case, kind, None, wanted, why, more=more))
            return
        more |= {"ours_ms": 1e3 * float(np.median(times)), "base_ms": 1e3 * per}
        value = spread([t / per for t in times])
        self.rows.append(Row(self.bench, case, kind, value, wanted, more=more))

    def failed(self, case: str, kind: Kind, why: str, wanted: float | None = None) -> None:
        """A row that could not be had."""
        self.rows.append(Row(self.bench, case, kind, None, wanted, why))

    def say(self, text: str) -> None:
        """On stderr: what is done now, and the seconds so far."""
        print(f"{time.monotonic() - self.began:5.0f} s {self.bench}: {text}", file=sys.stderr)

    def publish(self) -> str:
        """Writes all that is known so far; the page."""
        head = {
            "machine": describe(),
            "versions": self.about["versions"],
            "commit": commit(),
            "suite": self.options.suite,
            "peak": self.peak,
            "dropped": self.dropped,
            "busiest": self.busiest,
            "missing": self.missing,
            "tuning": self.tuning,
            **{k: v for k, v in self.about.items() if k != "versions"},
        }
        text = page(self.bench, head, self.rows)
        write(self.options.out, self.bench, head, self.rows, text)
        return text


def known(got: Samples, name: str) -> list[float]:
    """The samples of an entry that were not dropped."""
    return [v for v in got.seconds.get(name, []) if v is not None]


def page(bench: str, head: dict[str, Any], rows: Sequence[Row]) -> str:
    """Markdown."""
    m, kept = head["machine"], [r.met for r in rows if r.met is not None]
    peaks = ", ".join(
        f"{name} {p['gflops']:.0f} GF/s" for name, p in head["peak"].items() if name != "best"
    )
    best = head["peak"].get("best", {})
    return "\n".join(
        [
            f"# {bench} ({head['suite']})\n\n{m['processor']}, {m['cores']} cores, {m['vector']}; "
            f"matrix product: {peaks}; memory {best.get('gbytes', 0):.0f} GB/s, in this run.",
            "Versions: " + ", ".join(f"{k} {v}" for k, v in head["versions"].items()) + ".",
            f"Commit {head['commit']}. Samples dropped because others used the machine: "
            f"{head['dropped']}; wanted bounds kept: {sum(kept)} of {len(kept)}.\n",
            table(rows),
            *(f"Missing: {name}: {why}\n" for name, why in head["missing"].items()),
        ]
    )


@contextmanager
def contest(bench: str, o: Options, ours: str, theirs: str) -> Iterator[Contest]:
    """Starts the workers (modules `ours` and `theirs`) and measures the machine's peak."""
    o.out.mkdir(parents=True, exist_ok=True)
    here = str(Path(__file__).resolve().parents[1])
    quiet = {"PYTHONPATH": here, "PYTHONUNBUFFERED": "1"}
    mine = {**quiet, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    mine |= {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}  # of a GPU's memory, which torch uses too
    yours = {**quiet, "KMP_BLOCKTIME": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(name: str, python: str, module: str, env: dict[str, str]) -> Worker:
            log = o.out / f"{bench}-{name}.log"
            return stack.enter_context(Worker(name, [python, "-m", module], log, env))

        c = Contest(bench, o, start("ours", sys.executable, ours, mine), [])
        torch = start("torch", o.peer_python, theirs, yours)
        c.theirs.append(torch)
        try:
            c.theirs.append(
                start(f"torch{FORCED}", o.peer_python, theirs, {**yours, **peaks.preload(scratch)})
            )
        except RuntimeError as error:
            c.missing[f"torch{FORCED}"] = str(error)
        c.measure_peak()
        both = [c.peak.get(w.name) for w in c.theirs]
        if len(both) == 2 and both[0] and both[1] and not peaks.helps(both[0], both[1]):
            c.missing[f"torch{FORCED}"] = "the preloaded library gains nothing in a matrix product"
            c.theirs.pop()
        try:
            theirs_versions = torch.call("about")
        except Unavailable as error:
            c.missing["torch"] = str(error)
            c.theirs.clear()
            theirs_versions = {}
        c.about["versions"] = versions(("jax", "jaxlib", "optax", "flax")) | theirs_versions
        yield c
        print(c.publish())


def suffix(worker: Worker) -> str:
    """Of the cases of a torch: "" as installed, "-avx512" forced."""
    return worker.name.removeprefix("torch")
