"""The least that a step of the balancing benchmark must compute and move, as time.

seconds = operations / (measured GF/s) + bytes / (measured GB/s); a step's `floor_ratio` is its time
over that. Counted are matrix products (2 per multiplication and addition; forward 1, backward 2, of
the bottom once a task where every task's gradients of the parameters are wanted), the Gramian,
Adam's reads and writes of parameters and of the batch's distinct rows, and the look-ups.
"""

from benchmarks.balancing_data import BOTTOM, HISTORY, WIDTH, World, layers


def operations(world: World, level: str) -> float:
    """Of a step: "summed", "representation" or "shared"."""
    size = {"bottom": 0, "heads": 0}
    for path, (n, m) in layers(world.tasks).items():
        size[path.split("/")[0]] += 2 * world.batch * n * m
    T, params = world.tasks, size["bottom"] / (2 * world.batch)
    backward = 2 * (T if level == "shared" else 1)
    row = {"summed": 0, "representation": world.batch * BOTTOM[1], "shared": params}[level]
    return 3 * size["heads"] + (1 + backward) * size["bottom"] + T * (T + 1) * row


def moved(world: World, level: str, distinct: int) -> float:
    """Bytes of a step; distinct: rows of the tables that its batch touches."""
    params = sum(n * m + m for n, m in layers(world.tasks).values())
    adam = 7 * 4 * (params + distinct * WIDTH)
    looked_up = 4 * world.batch * (HISTORY + 2) * WIDTH
    return adam + looked_up * (1 + (world.tasks if level == "shared" else 1))


def seconds(world: World, level: str, distinct: int, gflops: float, gbytes: float) -> float:
    """The floor."""
    work = operations(world, level) / (1e9 * gflops)
    return work + moved(world, level, distinct) / (1e9 * gbytes)
