"""What a compiled program says to other devices: collectives in its HLO, their bytes, their groups.

Bytes are those of a ring: of each device's array of n bytes in a group of k devices an all-reduce
sends 2 n (k - 1) / k, a reduce-scatter (n: its input), an all-gather (n: its output) and an
all-to-all n (k - 1) / k, a permutation n. So an all-reduce is as much as a reduce-scatter and an
all-gather.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_LINE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\((.*)")
_ARRAY = re.compile(r"\b(pred|[subf]+\d+(?:e\w+)?)\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """One operation: its arrays (dtype, shape) as they are when whole, and devices of a group."""

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    group: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends."""
        n = sum(_width(d) * math.prod(s) for d, s in self.arrays)
        if self.kind == "collective-permute":
            return float(n)
        return (2 if self.kind == "all-reduce" else 1) * n * (self.group - 1) / self.group


def collectives(hlo: str) -> list[Collective]:
    """All of a module's text (`compiled.as_text()`), loops counted once."""
    found = []
    for line in hlo.splitlines():
        m = _LINE.search(line)
        if m is None:
            continue
        result, kind, started, rest = m[1], m[2], m[3], m[4]
        arrays = [(d, _shape(s)) for d, s in _ARRAY.findall(result)]
        if started and kind != "all-reduce":  # (operands, results)
            arrays = arrays[len(arrays) // 2 :]
        group = _group(rest)
        if kind == "reduce-scatter":  # the result is one part
            arrays = [(d, (group, *s)) for d, s in arrays]
        if kind == "all-to-all" and result.startswith("("):  # one part of each for every device
            arrays = [*arrays]
        found.append(Collective(kind, tuple(arrays), group))
    return found


def sent(found: Sequence[Collective]) -> float:
    """Bytes that a device sends in all of them."""
    return sum(c.sent for c in found)


def _group(text: str) -> int:
    """Devices of a replica group, in any of XLA's three ways to write it; 2 of a permutation."""
    m = re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\(.*?\))? \{(.*?)\}", text)
    if m:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", m[1]))
        return math.prod(int(sizes[a]) for a in re.findall(r"'(\w+)'", m[2]))
    m = re.search(r"replica_groups=\[(\d+),(\d+)\]", text)
    if m:
        return int(m[2])
    m = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
    return len(m[1].split(",")) if m else 2


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _width(dtype: str) -> int:
    digits = re.search(r"\d+", dtype)
    return max(int(digits[0]) // 8, 1) if digits else 1
