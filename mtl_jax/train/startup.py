"""Where the time to the first step goes."""

import os
import time
from pathlib import Path

from absl import logging

_TICKS = os.sysconf("SC_CLK_TCK")  # of /proc, a second


class Startup:
    """Seconds by part, one part after the other, until it is told; the clock runs from here.

    import   from the start of the process until its script was there (scripts that train once)
    prepare  raw data to prepared data, or opening what is prepared
    encode   texts through the frozen part of the encoder, or its cache
    model    description of the model, optimiser, batch shapes, checkpoints looked at
    state    parameters and tables made, or restored
    batch    waiting for the first batch
    compile  waiting for the compiled step, which a thread began before `state`
    first_step
    """

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.told = False
        self._last = time.perf_counter()

    @classmethod
    def of_process(cls) -> "Startup":
        """With `import`: all that this process has done so far."""
        startup = cls()
        startup.parts["import"] = age_of_process()
        return startup

    def lap(self, part: str) -> None:
        """`part` has ended now."""
        if self.told:
            return
        now = time.perf_counter()
        self.parts[part] = now - self._last
        self._last = now

    def tell(self) -> dict[str, float]:
        """The parts and their sum, `seconds`; also to the log."""
        self.told = True
        total = sum(self.parts.values())
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.parts.items())
        logging.info("first step after %.1f s: %s", total, told)
        return {"seconds": total, **self.parts}


def age_of_process() -> float:
    """Seconds since this process was started; 0 where the system does not tell."""
    try:
        stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return max(uptime - int(stat[19]) / _TICKS, 0.0)
