"""What a run writes about itself: metrics.jsonl, TensorBoard, a progress bar."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mtl_jax.train.board import Board

LINES = "metrics.jsonl"


class Silent:
    """The journal of a process that has nothing to write."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *told: object) -> None: ...

    def advance(self, step: int, rows: int) -> None: ...

    def train(self, step: int, values: Mapping[str, float]) -> None: ...

    def evaluated(self, step: int, values: Mapping[str, float]) -> None: ...

    def event(self, step: int, what: str, **details: object) -> None: ...

    def waited(self, seconds: float) -> None: ...

    def started(self, step: int, parts: Mapping[str, float]) -> None: ...


class Journal:
    """Lines of {"step": k, "kind": "train" | "eval", name: value}; the same go to TensorBoard.

    A resumed run first drops what an interrupted one wrote beyond the step it resumes from, so
    that no step is told twice.
    """

    def __init__(self, workdir: Path, resume_from: int, total: int, quiet: bool = False) -> None:
        self._path = workdir / LINES
        self._drop_after(resume_from)
        self._file = self._path.open("a")
        self._board = Board(workdir / "tensorboard", resume_from)
        self._progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=quiet,
        )
        self._bar = self._progress.add_task("train", total=total, completed=resume_from, note="")
        self._clock, self._rows, self._waited = time.perf_counter(), 0, 0.0

    def __enter__(self) -> "Journal":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._file.close()
        self._board.close()

    def advance(self, step: int, rows: int) -> None:
        """The bar moves to `step`; `rows` were trained on since the last call."""
        self._rows += rows
        self._progress.update(self._bar, completed=step)

    def waited(self, seconds: float) -> None:
        """So long the loop has waited for a batch."""
        self._waited += seconds

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """A line of training values, with examples/s and input_wait since the last one.

        input_wait: the share of the time in which the loop waited for input.
        """
        now = time.perf_counter()
        seconds = max(now - self._clock, 1e-9)
        speed, wait = self._rows / seconds, min(self._waited / seconds, 1.0)
        self._clock, self._rows, self._waited = now, 0, 0.0
        note = f"{speed:,.0f} examples/s  input {wait:.0%}  loss {values.get('loss', math.nan):.4f}"
        self._progress.update(self._bar, completed=step, note=note)
        self._write(step, "train", {**values, "examples_per_second": speed, "input_wait": wait})

    def started(self, step: int, parts: Mapping[str, float]) -> None:
        """A line about where the time to the first step went, in seconds."""
        self._write(step, "start", parts)

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """A line of evaluation values; the time it took does not count as training."""
        self._write(step, "eval", values)
        self._clock, self._rows, self._waited = time.perf_counter(), 0, 0.0

    def event(self, step: int, what: str, **details: object) -> None:
        """A line about something that happened: a resume, a skipped update, a stop."""
        self._file.write(json.dumps({"step": step, "kind": what, **details}) + "\n")
        self._file.flush()

    def _write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **finite}) + "\n")
        self._file.flush()
        for name, value in values.items():  # TensorBoard's names have no "@" and no "|"
            self._board.add(f"{kind}/{name.replace('@', '_at_').replace('|', '-')}", value, step)

    def _drop_after(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError):
                continue  # the last line of a killed run may be cut off
        self._path.write_text("".join(f"{line}\n" for line in kept))
