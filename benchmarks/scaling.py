"""What other devices are told, and what a step costs as each size is doubled.

python -m benchmarks.scaling [--out=DIR] [--quick] [--case=REGEX] [--busy=0.1]

<axis>-<n>-bytes: bytes that a device sends in a step on n faked CPU devices, over the least that
the mesh must send (`scaling_ours.least`). They are counted in the compiled program and not timed:
faked devices share the cores. growth-<letter>: time of a step on one device with T tasks, U items
of a batch, H history, L tokens of a row, V of the encoder's vocabulary, or the tables' rows
doubled, over that of the base; floating-point operations, bytes and compile time likewise.
"""

import re
import sys
from pathlib import Path
from typing import Any

from absl import app, flags
from rich.console import Console

from benchmarks.machine import commit, describe, versions
from benchmarks.report import Row, table, write
from benchmarks.spread import Spread, ratio, spread
from benchmarks.turns import Entry, Samples, Unavailable, Worker, interleave
from mtl_jax.core.xla import LOOPS

FLAGS = flags.FLAGS
BENCH = "scaling"
# case -> (devices, mesh, wanted).  1.5 is what fsdp sends where there is no reduce-scatter.
TALK: dict[str, tuple[int, str, float | None]] = {
    "data-1-bytes": (1, "data=1", None),
    "data-2-bytes": (2, "data=2", 1.2),
    "data-4-bytes": (4, "data=4", 1.2),
    "data-8-bytes": (8, "data=8", 1.2),
    "fsdp-2-bytes": (2, "fsdp=2", None),
    "fsdp-4-bytes": (4, "fsdp=4", None),
    "fsdp-8-bytes": (8, "fsdp=8", None),
    "tensor-2-bytes": (2, "tensor=2", None),
    "tensor-4-bytes": (4, "tensor=4", None),
    "expert-2-bytes": (2, "expert=2", None),
}
GROWTH = ("T", "U", "H", "L", "V", "tables")
QUICK = "data-8|fsdp-8|tensor-2|growth-U"
SAMPLE = 0.3  # seconds


def define_flags() -> None:
    """This script's own."""
    flags.DEFINE_string("out", "runs/scaling", "Folder for scaling.json and scaling.md.")
    flags.DEFINE_string("case", "", "Regular expression: only the cases that it is found in.")
    flags.DEFINE_bool("quick", False, "A subset, in about a minute.")
    flags.DEFINE_float("busy", 0.1, "Samples during which others had more are dropped.")


def worker(out: Path, devices: int) -> Worker:
    """A process with so many faked devices."""
    env = {
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_FLAGS": f"{LOOPS} --xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-m", "benchmarks.scaling_ours", str(out)]
    return Worker(f"{devices} devices", command, out / f"devices-{devices}.log", env)


def talking(out: Path, cases: dict[str, tuple[int, str, float | None]]) -> list[Row]:
    """One process for each number of devices."""
    rows = []
    for devices in sorted({n for n, _, _ in cases.values()}):
        with worker(out, devices) as w:
            for case, (n, mesh, wanted) in cases.items():
                if n != devices:
                    continue
                try:
                    got = w.call("talk", mesh=mesh)
                except Unavailable as error:
                    rows.append(Row(BENCH, case, "overhead", None, wanted, str(error)))
                    continue
                # One device has nobody to talk to: what it sends is then the number.
                over = got["sent"] / (got["least"] or 1.0)
                value = Spread(over, over, over, 1)
                rows.append(Row(BENCH, case, "overhead", value, wanted, more={"mesh": mesh, **got}))
    return rows


def growing(w: Worker, letters: list[str], quick: bool, busy: float) -> tuple[list[Row], Samples]:
    """All sizes in one process, in turns."""
    costs = {what: w.call("grow", what=what) for what in ("", *letters)}
    entries = []
    for what in costs:
        w.call("run", what=what, steps=2)
        once = w.call("run", what=what, steps=2) / 2
        entries.append(Entry(what, w, {"what": what}, max(1, round(SAMPLE / once))))
    got = interleave(entries, 3 if quick else 5, (w.pid,), busy)
    rows = []
    for what in letters:
        value = ratio(got.seconds[what], got.seconds[""])
        more: dict[str, Any] = {k: costs[what][k] / costs[""][k] for k in costs[what]}
        mine, base = ([s for s in got.seconds[k] if s is not None] for k in (what, ""))
        if mine and base:
            more |= {"ours_ms": 1e3 * spread(mine).median, "base_ms": 1e3 * spread(base).median}
        why = "" if value else "others used the machine during every sample"
        rows.append(Row(BENCH, f"growth-{what}", "growth", value, None, why, more=more))
    return rows, got


def text_of(head: dict[str, Any], rows: list[Row]) -> str:
    """The Markdown page."""
    m, best = head["machine"], head["peak"]
    lines = [
        f"# What a mesh says, and how a step grows\n\n{m['processor']}, {m['cores']} cores; "
        f"{best.get('gflops', 0):.0f} GF/s in a matrix product, {best.get('gbytes', 0):.1f} GB/s.",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in head["versions"].items()) + ".",
        f"Commit {head['commit']}. Samples dropped: {head['dropped']}.\n",
        table(rows),
        "| case | operations | MB sent | least | MB of state | on a device |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        if "kinds" in r.more:
            kinds = ", ".join(f"{v['n']} {k}" for k, v in r.more["kinds"].items())
            sizes = (r.more[k] / 1e6 for k in ("sent", "least", "state_bytes", "held_bytes"))
            lines.append(f"| {r.case} | {kinds} | " + " | ".join(f"{s:.2f}" for s in sizes) + " |")
    names = ("flops", "bytes", "temporary", "trace_s", "compile_s")
    lines.append("\n| doubled | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for r in rows:
        if "flops" in r.more:
            lines.append(f"| {r.case} | " + " | ".join(f"{r.more[n]:.2f}" for n in names) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    del argv
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    pattern = FLAGS.case or (QUICK if FLAGS.quick else "")
    rows = talking(out, {k: v for k, v in TALK.items() if re.search(pattern, k)})
    letters = [g for g in GROWTH if re.search(pattern, f"growth-{g}")]
    head: dict[str, Any] = {
        "machine": describe(), "versions": versions(("jax", "jaxlib", "optax", "flax")),
        "commit": commit(), "peak": {}, "dropped": 0,
    }  # fmt: skip
    publish(out, head, rows)  # what there is, should the rest fail
    if letters:
        with worker(out, 1) as w:
            grown, got = growing(w, letters, FLAGS.quick, FLAGS.busy)
            head |= {"peak": w.call("peak"), "dropped": got.dropped, "busiest": got.busiest}
            rows += grown
    text = publish(out, head, rows)
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def publish(out: Path, head: dict[str, Any], rows: list[Row]) -> str:
    """Writes what has been measured so far; the page."""
    order = [*TALK, *(f"growth-{g}" for g in GROWTH)]
    rows.sort(key=lambda r: order.index(r.case))
    text = text_of(head, rows)
    write(out, BENCH, head, rows, text)
    return text


if __name__ == "__main__":
    define_flags()
    app.run(main)
