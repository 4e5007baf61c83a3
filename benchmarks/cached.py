"""A training step over cached text vectors (the encoder is frozen): ours against torch.

python -m benchmarks.cached --out=DIR [--quick] [--suite=cpu|gpu] [--data=DIR]

Towers, scores, trunk, heads and tables on MovieLens, batch 512, history 50, in random order. Torch
runs the same model with the same weights (same losses to 1e-4, or there is no number), eager and
by torch.compile, each at the fastest of the variants in `recommender_theirs.ways`.

torch-eager, torch-compiled: torch's seconds a step over ours, building the batch included.
"""

import tempfile

from benchmarks.contest import contest, options, suffix
from benchmarks.recommender_bench import opened

WANTED = {"eager": 2.0, "compiled": 1.0}


def main() -> None:
    """Measures and writes."""
    o = options("cached", __doc__)
    modules = ("benchmarks.recommender_ours", "benchmarks.recommender_theirs")
    with contest("cached", o, *modules) as c, tempfile.TemporaryDirectory() as folder:
        told = opened(c, folder, "titles", 512, 0)
        ours = c.entry(c.ours, "step", least=8)
        names = [n for n in WANTED if not (o.quick and n == "compiled")]
        entries = [(w, n, c.entry(w, n, least=8)) for w in c.theirs for n in names]
        got = c.turns([ours, *(e for _, _, e in entries)], 3 if o.quick else 9)
        host = c.ours.call("host")
        for worker, name, _ in entries:
            full, wanted = f"{worker.name} {name}", None if suffix(worker) else WANTED[name]
            more = {
                "variant": c.tuning.get(full, {}).get("variant", ""),
                "host_ms": 1e3 * host,
                "batch": 512,
                "distinct": told["distinct"],
            }
            c.row(
                f"torch-{name}{suffix(worker)}", "speedup", full, "ours step", got, wanted, **more
            )


if __name__ == "__main__":
    main()
