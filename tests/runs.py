"""Processes that train, and the tiny run that they make; see zygote.py."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "tests" / "tiny_config.py"
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TERM, KILL = signal.SIGTERM, signal.SIGKILL


@dataclass
class Process:
    """One script that is running or has run."""

    zygote: "Zygote"
    pid: int
    log: Path
    events_path: Path
    status: int | None = None

    def wait(self) -> int:
        """Its exit status; minus the signal that killed it."""
        if self.status is None:
            self.status = self.zygote.read()["status"]
        return self.status

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def events(self) -> list[dict[str, Any]]:
        text = self.events_path.read_text() if self.events_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def wait_until(
        self, seen: Callable[[list[dict[str, Any]]], bool], seconds: float = 300
    ) -> bool:
        """True once `seen(events)` holds, False if the process has ended before."""
        end = time.time() + seconds
        while not seen(self.events()):
            assert time.time() < end, self.output()[-3000:]
            if not self.alive():
                return bool(seen(self.events()))
            time.sleep(0.002)
        return True

    def alive(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat")
        try:
            return state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False


@dataclass
class Zygote:
    """The process that forks the others; one at a time."""

    folder: Path
    count: int = 0
    process: Any = None
    last: Process | None = None

    def __post_init__(self) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        # The compiler is most of a tiny run.
        env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        env["XLA_FLAGS"] = FAST
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT,
        )

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        assert line, "the zygote has ended"
        return json.loads(line)

    def start(self, module: str, *argv: str, **order: Any) -> Process:
        if self.last and self.last.status is None:  # a test that failed left it
            with suppress(ProcessLookupError):
                self.last.send(KILL)
            self.last.wait()
        self.count += 1
        log = self.folder / f"{os.getpid()}-{self.count}.log"
        events = log.with_suffix(".events")
        told = {"module": module, "argv": argv, "log": str(log), **order}
        if module == "experiments.train":
            told["events"] = str(events)
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        self.last = Process(self, self.read()["pid"], log, events)
        return self.last

    def run(self, module: str, *argv: str, **order: Any) -> Process:
        found = self.start(module, *argv, **order)
        found.wait()
        return found

    def train(
        self, workdir: Path, *overrides: str, flags: Sequence[str] = (), **order: Any
    ) -> Process:
        """Start experiments.train on the tiny configuration."""
        argv = [f"--config={CONFIG}", f"--workdir={workdir}", *flags]
        return self.start("experiments.train", *argv, *(f"--set={o}" for o in overrides), **order)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One worker at a time."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Tiny:
    """The tiny run, trained once a session: prepared data and a finished working folder."""

    folder: Path

    @property
    def workdir(self) -> Path:
        return self.folder / "whole"

    @property
    def data(self) -> str:
        """The override that names the prepared data."""
        return f"data.prepared={self.folder / 'prepared'}"

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.workdir / "metrics.json").read_text())

    @property
    def events(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "events.json").read_text())

    @property
    def state(self) -> str:
        """Digest of the state that training ended with."""
        return next(e["state"] for e in self.events if e["what"] == "trained")


def make_tiny(folder: Path, zygote: Zygote) -> Tiny:
    """Train the tiny run in `folder` unless that has been done."""
    tiny = Tiny(folder)
    with locked(folder / "tiny.lock"):
        if not (folder / "events.json").exists():
            process = zygote.train(tiny.workdir, tiny.data)
            assert process.wait() == 0, process.output()[-5000:]
            (folder / "events.json").write_text(json.dumps(process.events()))
    return tiny
