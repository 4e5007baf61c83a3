"""Scalars for TensorBoard, written where they are told.

tensorboardX's own SummaryWriter hands them to a thread that waits by the wall clock: one that is
set back, or a full disk, ends the thread, and the training waits for ever for room in its queue.
"""

import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

FLUSH = 30.0  # seconds, since a flush waits for the disk


class Board:
    """An event file in `folder`; steps from `resume_from` + 1 on of older files are not shown."""

    def __init__(self, folder: Path, resume_from: int) -> None:
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        if resume_from:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=resume_from + 1, session_log=start))

    def add(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._write(Event(step=step, summary=scalar(name, value)))
        if time.monotonic() - self._flushed > FLUSH:
            self._events.flush()
            self._flushed = time.monotonic()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)

    def close(self) -> None:
        """Write what is left."""
        self._events.close()
