"""Run a training and start it again when it crashes or hangs.

    python -m experiments.supervise --restarts=3 -- python -m experiments.train --workdir=runs/x
    python -m experiments.supervise --processes=2 -- python -m experiments.train --workdir=runs/x

The command must go on where it stopped when it is started again with the same flags, as train
does. It is started anew when it ends with a status other than 0 and 2 (2 is bad input: it would be
bad again), or makes no step for a time. Of several processes (train's --coordinator, --processes
and --process are added to the command) all are ended and started again together.

SIGTERM and SIGINT are passed on as SIGTERM; a second one kills. The exit status is the command's.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from absl import app, flags

from mtl_jax.train.heartbeat import FILE

RESTARTS = flags.DEFINE_integer("restarts", 3, "How often at most to start again.", 0)
HANG_AFTER = flags.DEFINE_float("hang_after", 600, "Seconds without a step until it hangs.", 0)
START_AFTER = flags.DEFINE_float(
    "start_after", 7200, "The same before the first step: preparing, encoding, compiling.", 0
)
PAUSE = flags.DEFINE_float("pause", 1, "Seconds before the first restart; doubled at each.", 0)
PROCESSES = flags.DEFINE_integer("processes", 1, "Processes that train together on this host.", 1)
BAD_INPUT = 2
FOLLOWED = (3, -signal.SIGABRT)  # how a process ends that has lost another one
GRACE = 30.0  # seconds for the other processes to tell what happened to them
POLL = 0.05


def say(text: str) -> None:
    """A line of our own among the command's output."""
    sys.stderr.write(f"supervise: {text}\n")  # whole, whatever else is written meanwhile
    sys.stderr.flush()


@dataclass
class Signals:
    """How many signals to stop have come."""

    asked: int = 0

    def __post_init__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked += 1


@dataclass
class Child:
    """One process of the command, and when it last gave a sign of life (monotonic seconds)."""

    process: subprocess.Popen[bytes]
    beats: Path
    seen: int = 0  # the file's time, only ever compared for being another one
    since: float = field(default_factory=time.monotonic)

    def hangs(self) -> str:
        """What to say of it if it lives and has not made a step for too long."""
        if self.process.poll() is not None:
            return ""
        touched = self.beats.stat().st_mtime_ns if self.beats.exists() else 0
        if touched != self.seen:
            self.seen, self.since = touched, time.monotonic()
        limit = HANG_AFTER.value if self.seen else START_AFTER.value
        late = time.monotonic() - self.since > limit
        return f"has made no step for {limit:g} s: killed" if late else ""

    def kill(self) -> None:
        """End it and what it started; the group outlives its leader."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(command: Sequence[str], folder: Path) -> list[Child]:
    """The command's processes, each in a session of its own."""
    n, more = PROCESSES.value, []
    if n > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            more = [f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={n}"]
    children = []
    for k in range(n):
        own = [*more, f"--process={k}"] if n > 1 else []
        beats = folder / f"beats-{k}"
        beats.unlink(missing_ok=True)
        env = {**os.environ, FILE: str(beats)}
        process = subprocess.Popen([*command, *own], env=env, start_new_session=True)
        children.append(Child(process, beats))
    say(f"started {', '.join(f'process {k} ({c.process.pid})' for k, c in enumerate(children))}")
    return children


def watch(children: list[Child], signals: Signals) -> tuple[int, str]:
    """(exit status, what happened) once all have ended or were ended; a hang is status 1."""
    passed, began = 0, 0.0
    why = ""
    while True:
        codes = [c.process.poll() for c in children]
        if all(code is not None for code in codes):
            break
        if not why and any(codes):
            began, why = time.monotonic(), _ended(codes)
        hung = [f"process {k} {what}" for k, c in enumerate(children) if (what := c.hangs())]
        if hung and not why:
            why = hung[0]
            break
        if why and time.monotonic() - began > GRACE:
            break
        if signals.asked > passed:
            passed = signals.asked
            say("stopping" if passed == 1 else "killing")
            for child in children:
                if passed == 1 and child.process.poll() is None:
                    child.process.send_signal(signal.SIGTERM)
            if passed > 1:
                break
        time.sleep(POLL)
    for child in children:
        child.kill()
    found = [c.process.returncode for c in children]
    if BAD_INPUT in found:
        return BAD_INPUT, _ended(found)
    if why and not any(code for code in codes):
        return 1, why
    worst = next((code for code in codes if code), 0)
    return (128 - worst if worst < 0 else worst or 0), why or _ended(found)


def _ended(codes: Sequence[int | None]) -> str:
    """ "process 1 was killed by SIGKILL": the first that did not end because of another."""
    bad = [(code in FOLLOWED, k, code) for k, code in enumerate(codes) if code]
    if not bad:
        return "all ended with status 0"
    _, k, code = min(bad)
    if code < 0:
        return f"process {k} was killed by {signal.Signals(-code).name}"
    return f"process {k} ended with status {code}"


def supervise(command: Sequence[str]) -> int:
    """Run the command to its end; its exit status."""
    signals = Signals()
    with tempfile.TemporaryDirectory(prefix="supervise-") as folder:
        for restart in range(RESTARTS.value + 1):
            status, what = watch(start(command, Path(folder)), signals)
            if status == 0 or signals.asked:
                return status
            say(what)
            if status == BAD_INPUT:
                say("that would be the same again: not restarted")
                return status
            if restart == RESTARTS.value:
                break
            pause = min(PAUSE.value * 2**restart, 300.0)
            say(f"restart {restart + 1} of {RESTARTS.value} in {pause:g} s")
            end = time.monotonic() + pause
            while time.monotonic() < end:
                if signals.asked:
                    return status
                time.sleep(POLL)
        say(f"gave up after {RESTARTS.value} restarts")
        return status


def main(argv: Sequence[str]) -> int:
    """Supervise what stands behind `--`."""
    if len(argv) < 2:
        print("error: no command: write it behind --, see --help", file=sys.stderr)
        return BAD_INPUT
    return supervise(argv[1:])


if __name__ == "__main__":
    app.run(main)
