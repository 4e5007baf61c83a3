"""Few static shapes, planned ahead, so that a training compiles once or twice and not per batch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from statistics import fmean, pstdev

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import Shape

ROUND = 64
STEP = 1.05  # from one number of packed rows to the next: half of what is above 1 is lost


@dataclass(frozen=True)
class Plan:
    """Shapes in rising order; the last holds any batch."""

    shapes: tuple[Shape, ...]

    def choose(self, needed: Shape) -> Shape:
        """The smallest planned shape that holds `needed`."""
        for shape in self.shapes:
            if shape.holds(needed):
                return shape
        raise UserError(f"a batch needs {needed}, the plan ends at {self.shapes[-1]}")


def make_plan(sample: Iterable[Shape], bound: Shape, multiple: int, fine: bool = False) -> Plan:
    """A common shape with a tenth to spare over the sampled ones, and the bound for the rest.

    bound: what no batch can exceed.  multiple: distinct rows of tables are a multiple of it (the
    number of data shards they are spread over).  fine: the common shape once for every few packed
    rows, because they are most of a step: see `levels`.
    """
    seen = list(sample)
    most = largest(seen)

    def size(name: str) -> int:
        want = -(-int(getattr(most, name) * 1.1) // ROUND) * ROUND
        return min(want, int(getattr(bound, name)))

    common = Shape(size("table"), size("users"), size("items"))
    packed = levels([s.packed for s in seen]) if fine else [math.ceil(most.packed * 1.1)]
    while 0 < packed[-1] < bound.packed:
        packed.append(2 * packed[-1])
    every = [replace(common, packed=min(n, bound.packed)) for n in packed]
    return Plan(tuple(dict.fromkeys(spread(s, multiple) for s in (*every, bound))))


def levels(seen: Sequence[int]) -> list[int]:
    """Numbers of packed rows, `STEP` apart, from what few batches go below to what few go above.

    Two standard deviations below the mean of those seen, four above.
    """
    mean, deviation = fmean(seen), pstdev(seen)
    n = max(math.ceil(mean - 2 * deviation), math.ceil(mean / 2), 1)
    found = [n]
    while n < max(mean + 4 * deviation, *seen):
        n = max(math.ceil(n * STEP), n + 1)
        found.append(n)
    return found


def spread(shape: Shape, multiple: int) -> Shape:
    """The shape with distinct rows of tables rounded up to a multiple."""
    up = lambda n: -(-n // multiple) * multiple  # noqa: E731
    return replace(shape, users=up(shape.users), items=up(shape.items))


def roomy(shape: Shape, multiple: int) -> Shape:
    """The shape rounded up to steps of ROUND, so that requests of about a size share a program."""
    up = lambda n, step: -(-n // step) * step  # noqa: E731
    rows = math.lcm(ROUND, multiple)
    return Shape(
        up(shape.table, ROUND), up(shape.users, rows), up(shape.items, rows), up(shape.packed, 8)
    )


def largest(shapes: Iterable[Shape]) -> Shape:
    """The smallest shape that holds all of `shapes`, which are at least one."""
    table, users, items, packed = zip(*(astuple(s) for s in shapes), strict=True)
    return Shape(max(table), max(users), max(items), max(packed))
