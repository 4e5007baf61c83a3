"""What learning together does to a task: relative change, Delta-m, and who is harmed."""

from collections.abc import Sequence
from typing import Literal

from mtl_jax.metrics.significance import ALPHA

Verdict = Literal["better", "worse", ""]


def relative_change(value: float, base: float, higher: bool) -> float | None:
    """(-1)^l (value - base) / base in percent, l = 1 where lower is better: positive is better.

    None where base is not above 0: a share of it would say nothing.
    """
    if base <= 0:
        return None
    return (1.0 if higher else -1.0) * (value - base) / base * 100.0


def delta_m(
    values: Sequence[float], bases: Sequence[float], higher: Sequence[bool]
) -> float | None:
    """Mean over tasks of `relative_change` to the single-task models, in percent.

    Maninis, Radosavovic, Kokkinos (CVPR 2019), equation 4. None where a task has none.
    """
    triples = zip(values, bases, higher, strict=True)
    changes = [relative_change(*triple) for triple in triples]
    known = [change for change in changes if change is not None]
    if not known or len(known) < len(changes):
        return None
    return sum(known) / len(known)


def verdict(difference: float, p: float | None, higher: bool) -> Verdict:
    """ "worse" is negative transfer: significantly worse (p below .05, corrected) than alone."""
    if p is None or p >= ALPHA or difference == 0:
        return ""
    return "better" if (difference > 0) == higher else "worse"
