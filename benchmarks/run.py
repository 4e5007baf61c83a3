"""Runs the benchmarks of a suite one after the other and merges what they found.

python -m benchmarks.run --suite=cpu|gpu --out=DIR [--quick] [--only=REGEX]
    [--peer_python=PATH] [--libmtl=PATH] [--data=DIR]

Every benchmark is a process of its own with a limit of time; one that fails, runs out of it or is
not there gives a row that says so. DIR/results.json is {"machine", "versions", "commit", "suite",
"peak", "rows"}, DIR/results.md one table, DIR/<name>.json, .md and .txt what each said by itself.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, describe
from benchmarks.report import KINDS, Row, table
from benchmarks.spread import Spread

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bench:
    """minutes: its limit, in full and with --quick. flags: of the runner's that it takes.

    quick: the suites in which it is quick whatever is asked for.
    """

    name: str
    minutes: tuple[float, float]
    flags: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


TORCH = ("suite", "peer_python", "data")
# Those against torch first: what a reader asks for, should the time run out. What is always quick
# takes longer than the suite has: run it by itself for all of its cases.
BENCHES = (
    Bench("encoder", (10, 4), TORCH, ("cpu",)),
    Bench("recommender", (12.5, 3), TORCH),
    Bench("cached", (3, 2), TORCH),
    Bench("evaluation", (2, 1), TORCH),
    Bench("embedding", (3, 2)),
    Bench("pipeline", (3, 2)),
    Bench("lanes", (6, 3), quick=("cpu",)),
    Bench("scaling", (8, 3), quick=("cpu",)),
    Bench("startup", (4, 2)),
    Bench("balancing", (4, 4), ("peer_python", "libmtl"), ("cpu", "gpu")),
)
TOTAL = 30.0  # minutes of the suite on a CPU
LEAST = 20.0  # seconds that are worth a start


def command(b: Bench, given: argparse.Namespace) -> list[str]:
    """How a benchmark is called."""
    words = [sys.executable, "-m", f"benchmarks.{b.name}", f"--out={given.out}"]
    words += ["--quick"] * is_quick(b, given)
    values = {flag: getattr(given, flag) for flag in b.flags}
    return [*words, *(f"--{flag}={value}" for flag, value in values.items() if value)]


def is_quick(b: Bench, given: argparse.Namespace) -> bool:
    """Whether only a subset of its cases runs."""
    return given.quick or given.suite in b.quick


def run_one(b: Bench, given: argparse.Namespace, seconds: float) -> str:
    """Runs it; "" or why there is nothing."""
    if not (HERE / f"{b.name}.py").is_file():
        return f"benchmarks/{b.name}.py is not there"
    if seconds < LEAST:
        return f"no time is left of the suite's {TOTAL:.0f} minutes"
    found = given.out / f"{b.name}.json"
    found.unlink(missing_ok=True)  # of an earlier run
    with (given.out / f"{b.name}.txt").open("w") as said:
        # A session of its own, so that its workers end with it.
        process = subprocess.Popen(
            command(b, given), stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds / 60:.1f} minutes"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        lines = (given.out / f"{b.name}.txt").read_text().strip().splitlines()
        return f"status {status}: {(lines or ['it said nothing'])[-1][:200]}"
    return "" if found.is_file() else f"it wrote no {found.name}"


def rows_of(found: dict[str, Any]) -> list[Row]:
    """Rows as `report.Row.as_dict` wrote them."""
    return [row_of(r) for r in found.get("rows", [])]


def row_of(r: dict[str, Any]) -> Row:
    """One row, back from its flat form; a missing one has no kind and is shown as a speedup."""
    kind = next((k for k in KINDS if k in r), None)
    own = {"bench", "case", "low", "high", "n", "wanted", "met", "missing", "floor_ratio", *KINDS}
    value = None if kind is None else Spread(r[kind], r["low"], r["high"], r.get("n", 0))
    return Row(
        r["bench"], r["case"], kind or "speedup", value, r.get("wanted"), r.get("missing", ""),
        r.get("floor_ratio"), {k: v for k, v in r.items() if k not in own},
    )  # fmt: skip


def merged(given: argparse.Namespace, missing: dict[str, str]) -> dict[str, Any]:
    """results.json: the rows of all that ran, and one for each that did not."""
    out: dict[str, Any] = {
        "machine": describe(), "versions": {}, "commit": commit(), "suite": given.suite,
        "peak": {}, "rows": [],
    }  # fmt: skip
    for b in chosen(given.only):
        path = given.out / f"{b.name}.json"
        if path.is_file():
            found = json.loads(path.read_text())
            out["versions"] |= found.get("versions", {})
            out["peak"][b.name] = found.get("peak", {})
            out["rows"] += found.get("rows", [])
        if b.name in missing:
            out["rows"].append(
                {"bench": b.name, "case": b.name, "missing": missing[b.name], "floor_ratio": None}
            )
    return out


def page(found: dict[str, Any]) -> str:
    """results.md."""
    m, rows = found["machine"], rows_of(found)
    met = [r.met for r in rows if r.met is not None]
    named = [Row(r.bench, f"{r.bench}: {r.case}", *fields(r)) for r in rows]
    lost = [f"- {r.bench}: {r.case}" for r in rows if r.met is False]
    return (
        f"# Benchmarks ({found['suite']})\n\n{m['processor']}, {m['cores']} cores, {m['vector']}; "
        f"commit {found['commit']}; "
        + ", ".join(f"{k} {v}" for k, v in found["versions"].items())
        + f".\nWanted bounds kept: {sum(met)} of {len(met)}.\n\n"
        + table(named)
        + ("\nNot kept:\n\n" + "\n".join(lost) + "\n" if lost else "")
    )


def fields(r: Row) -> tuple[Any, ...]:
    """All of a row behind its case."""
    return r.kind, r.value, r.wanted, r.missing, r.floor_ratio, r.more


def chosen(only: str) -> list[Bench]:
    """The benchmarks whose name `only` is found in."""
    return [b for b in BENCHES if re.search(only, b.name)]


def flags_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks.run", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--suite", choices=("cpu", "gpu"), default="cpu")
    add("--out", type=Path, required=True)
    add("--quick", action="store_true")
    add("--only", default="", help="regular expression: benchmarks whose name it is found in")
    add("--peer_python", default=sys.executable, help="interpreter of the peers")
    add("--libmtl", default="", help="a clone of median-research-group/LibMTL")
    add("--data", default="", help="folder of ml-1m-collm, if not ../shared/data/ml-1m-collm")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, and writes after every benchmark."""
    given = flags_of(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    began, missing = time.monotonic(), {}
    for b in chosen(given.only):
        limit = 60 * b.minutes[is_quick(b, given)]
        if given.suite == "cpu":
            limit = min(limit, 60 * TOTAL - (time.monotonic() - began))
        print(f"{b.name}: at most {limit / 60:.1f} minutes", file=sys.stderr, flush=True)
        if why := run_one(b, given, limit):
            missing[b.name] = why
            print(f"{b.name}: missing: {why}", file=sys.stderr, flush=True)
        found = merged(given, missing)
        (given.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
        (given.out / "results.md").write_text(page(found))
    print((given.out / "results.md").read_text())


if __name__ == "__main__":
    main()
