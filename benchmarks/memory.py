"""Peak resident memory of this process while something runs (Linux)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")


def peak_mib(f: Callable[[], Any]) -> float:
    """The highest resident memory while f() runs, in MiB, all of the process; 0 if unknown."""
    try:
        (_PROC / "clear_refs").write_text("5")  # forget the highest so far
    except OSError:
        return 0.0
    f()
    for line in (_PROC / "status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
