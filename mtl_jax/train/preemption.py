"""SIGTERM and SIGINT: noted when they come, answered where the run is whole."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from mtl_jax.train import distributed
from mtl_jax.train.heartbeat import beat

T = TypeVar("T")


class Preempted(Exception):
    """The run was asked to stop; what could be saved is saved."""


class Preemption:
    """Context in which `asked()` says whether a signal to stop has come.

    with Preemption() as preemption:
        while not preemption.asked(): ...
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        alone = not distributed.joined()  # otherwise jax takes SIGTERM, and tells all processes
        if alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._event.set()

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._event.is_set()

    def check(self, step: int | None = None) -> None:
        """Raise Preempted if a signal has come; tell a supervisor that this process lives.

        step: how many steps were made, None within one. Processes that train together stop
        between steps only, after the same one.
        """
        beat()
        together = distributed.joined() and step is not None
        if self.asked() or (together and distributed.asked_to_stop(step or 0)):
            raise Preempted

    def wait_for(self, work: Callable[[], T]) -> T:
        """`work()` in a thread, so that a signal is answered although XLA compiles in C++.

        Raises Preempted as soon as a signal comes; the thread is left to die with the process.
        """
        box: dict[str, Any] = {}

        def run() -> None:
            try:
                box["value"] = work()
            except BaseException as error:
                box["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
            if self.asked():
                raise Preempted
        if "error" in box:
            raise box["error"]
        value: T = box["value"]
        return value
