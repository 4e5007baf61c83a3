"""Full ranking of every query's item among all items, in blocks, against its matrix product.

python -m benchmarks.evaluation --out=DIR [--quick] [--suite=cpu|gpu]

full-ranking   our time over the floor: the operations of queries x items at this run's best product
product        of our time, the share that the same blocks' product alone takes (numpy's)
torch-ranks    torch's seconds for the same ranks, by counting, over ours
torch-topk     torch's seconds for the best 100 of every query (no ranks of the others) over ours
"""

import numpy as np

from benchmarks.contest import contest, options, suffix
from benchmarks.turns import Unavailable


def main() -> None:
    """Measures and writes."""
    o = options("evaluation", __doc__)
    size = {"queries": 512 if o.quick else 2048, "items": 20_000, "width": 64}
    modules = ("benchmarks.evaluation_ours", "benchmarks.evaluation_theirs")
    with contest("evaluation", o, *modules) as c:
        told = c.ours.call("open", **size)
        for worker in list(c.theirs):
            try:
                found = worker.call("open", **size)
            except Unavailable as error:
                c.missing[worker.name] = str(error)
                c.theirs.remove(worker)
                continue
            # Rounding may swap neighbours among thousands of scores.
            apart = np.abs(np.subtract(found, told["ranks"]))
            if apart.mean() > 0.1:
                raise AssertionError(f"{worker.name}: ranks differ by {apart.mean()} on average")
        entries = [c.entry(c.ours, name) for name in ("ranks", "product")]
        entries += [c.entry(w, name) for w in c.theirs for name in ("ranks", "topk")]
        got = c.turns(entries, 3 if o.quick else 7)
        floor = told["operations"] / (1e9 * c.peak["best"]["gflops"])
        c.alone("full-ranking", "overhead", "ours ranks", got, floor, **size)
        c.row("product", "share", "ours product", "ours ranks", got, **size)
        for worker in c.theirs:
            for name in ("ranks", "topk"):
                case = f"torch-{name}{suffix(worker)}"
                full = f"{worker.name} {name}"
                c.row(case, "speedup", full, "ours ranks", got, None, floor, **size)


if __name__ == "__main__":
    main()
