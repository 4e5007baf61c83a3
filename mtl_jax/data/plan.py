"""Few static shapes, planned ahead, so that a training compiles once or twice and not per batch."""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import Shape

ROUND = 64


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


def make_plan(sample: Iterable[Shape], bound: Shape, multiple: int) -> Plan:
    """A common shape with a tenth to spare over the sampled ones, and the bound for the rest.

    bound: what no batch can exceed.  multiple: distinct rows of tables are a multiple of it (the
    number of data shards they are spread over).
    """
    seen = largest(sample)

    def size(name: str) -> int:
        want = -(-int(getattr(seen, name) * 1.1) // ROUND) * ROUND
        return min(want, int(getattr(bound, name)))

    common = Shape(size("table"), size("users"), size("items"), size("packed"))
    shapes = dict.fromkeys(spread(s, multiple) for s in (common, bound))
    return Plan(tuple(shapes))


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
