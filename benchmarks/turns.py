"""Processes that take turns: a parent asks one worker at a time, so that only one computes.

A worker is a module whose main calls `serve({"name": function})`. The parent's
`Worker("name", [python, "-m", module])` calls these by name over a pipe, one JSON line each way.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import others_share, ticks
from mtl_jax.core.memory import ENVIRONMENT
from mtl_jax.core.xla import keep_loops

SETTLE = 0.02  # seconds in which the threads of the last one to run stop spinning


class Unavailable(RuntimeError):
    """What a worker could not do, in its own words."""


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answers calls until the parent closes the pipe. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            reply = {"value": handlers[call["do"]](**call["with"])}
        except Exception as error:
            traceback.print_exc()
            said = (str(error).strip().splitlines() or ["no message"])[0]
            reply = {"error": f"{type(error).__name__}: {said[:200]}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


class Worker:
    """A process that serves; use as a context."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self._log = log.open("w")
        keep_loops()  # for ours, as scripts do; torch reads no XLA_FLAGS
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ENVIRONMENT, **env},  # ours and the peers' alike
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def call(self, do: str, **arguments: Any) -> Any:
        """The function's value; `Unavailable` if it raised or the process died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Unavailable(f"{self.name} died in {do}: see {self._log.name}")
        reply = json.loads(line)
        if "error" in reply:
            raise Unavailable(reply["error"])
        return reply["value"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


@dataclass(frozen=True)
class Entry:
    """One thing to time: `worker` runs `steps` steps of it and answers how many seconds it took."""

    name: str
    worker: Worker
    arguments: Mapping[str, Any]
    steps: int

    def run(self, steps: int = 0) -> float:
        """Seconds a step."""
        n = steps or self.steps
        return float(self.worker.call("run", steps=n, **self.arguments)) / n


@dataclass(frozen=True)
class Samples:
    """Seconds a step by entry and round, None where others had too much of the machine."""

    seconds: dict[str, list[float | None]]
    dropped: int
    busiest: float


def interleave(
    entries: Sequence[Entry],
    rounds: int,
    pids: Sequence[int],
    most: float = 0.1,
    tries: int = 2,
    tell: Callable[[], None] = lambda: None,
) -> Samples:
    """Samples in rounds: every entry once a round, there and back, so that drift hits all alike.

    A sample during which others had more than `most` of the machine is taken again, up to `tries`
    times in all, and dropped in the end.
    """
    seconds: dict[str, list[float | None]] = {e.name: [] for e in entries}
    dropped, busiest = 0, 0.0
    for n in range(rounds):
        for entry in entries if n % 2 == 0 else reversed(entries):
            value: float | None = None
            for _ in range(tries):
                time.sleep(SETTLE)
                before = ticks(pids)
                taken = entry.run()
                share = others_share(before, ticks(pids), entry.worker.pid)
                busiest = max(busiest, share)
                if share <= most:
                    value = taken
                    break
                dropped += 1
            seconds[entry.name].append(value)
            tell()
    return Samples(seconds, dropped, busiest)
