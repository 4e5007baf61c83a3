"""The machine a benchmark runs on: its name, and how much of it others use meanwhile."""

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_STAT = Path("/proc/stat")


def describe() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    flags = found.get("flags", "").split()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": found.get("model name", platform.processor()),
        "vector": next((f for f in ("avx512f", "avx2", "avx") if f in flags), "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The checkout's commit, "+" where files differ from it."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def free_gib() -> float:
    """Memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2**20
    return 0.0


@dataclass(frozen=True)
class Ticks:
    """Processor time so far, in ticks: of all cores, of that busy or stolen, of each process."""

    total: int
    busy: int
    own: dict[int, int]


def ticks(pids: Iterable[int]) -> Ticks:
    """Reads /proc; a process that is gone counts nothing."""
    fields = [int(x) for x in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]  # idle and waiting for a disk; steal is the eighth and is busy
    own = {}
    for pid in pids:
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own[pid] = int(after_name[11]) + int(after_name[12])
        except OSError:
            own[pid] = 0
    return Ticks(sum(fields), sum(fields) - idle, own)


def others_share(before: Ticks, after: Ticks, runner: int | None = None) -> float:
    """Share of all processor time between the two that others than our processes had.

    runner: only this one of ours counts as ours: the idle ones are others too.
    """
    total = max(after.total - before.total, 1)
    used = {pid: after.own[pid] - before.own.get(pid, 0) for pid in after.own}
    mine = sum(used.values()) if runner is None else used[runner]
    return max(after.busy - before.busy - mine, 0) / total
