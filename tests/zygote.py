"""Runs scripts in processes of their own without paying for their imports each time.

`python tests/zygote.py` imports everything, then reads one JSON order per line from standard input,
forks for each, and answers with {"pid": ...} and, at its end, {"status": ...}. A forked process is
a real one: it may be killed. jax is imported here but starts no backend before the fork.

An order: {"module", "argv", "log", "events", "xla_flags", "config", "file_size"}; `module` has a
main(). The process appends what happens to `events`, one JSON line each with its time.
"""

import importlib
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
sys.modules["torch"] = None  # type: ignore[assignment]  # no script may need it


class Events:
    """Tells the parent where the process is: a pipe would lose what a kill interrupts."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(self, what: str, **more: Any) -> None:
        line = json.dumps({"what": what, "time": time.time(), **more}) + "\n"
        os.write(self.file, line.encode())


def state_digest(state: Any) -> str:
    """sha256 of every bit of a state."""
    import hashlib

    import jax
    import numpy as np

    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def watch(events: Events) -> None:
    """Make training tell when it saves, evaluates, steps, and with what it ends."""
    import experiments.train as script
    from mtl_jax.train import loop
    from mtl_jax.train.checkpoint import Checkpoints
    from mtl_jax.train.journal import Journal
    from mtl_jax.train.preemption import Preemption

    def around(owner: Any, name: str, what: str) -> None:
        inner = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            events.tell(f"{what} begins")
            try:
                return inner(*args, **kwargs)
            finally:
                events.tell(f"{what} ends")

        setattr(owner, name, wrapped)

    around(Checkpoints, "save", "save")
    around(script, "evaluate", "evaluation")
    advance, trained = Journal.advance, script.train
    wait = Preemption.wait_for

    def advanced(self: Journal, step: int, rows: int) -> None:
        events.tell("step", step=step)
        advance(self, step, rows)

    def waiting(self: Preemption, work: Any) -> Any:
        events.tell("waits")
        return wait(self, work)

    def train(*args: Any, **kwargs: Any) -> Any:
        state, progress, step = trained(*args, **kwargs)
        events.tell("trained", step=step, state=state_digest(state), waited=progress.waited)
        return state, progress, step

    Journal.advance, Preemption.wait_for, script.train = advanced, waiting, train  # type: ignore
    assert loop.Journal is Journal


def child(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(0)
    if order.get("xla_flags"):
        os.environ["XLA_FLAGS"] += f" {order['xla_flags']}"
    if order.get("file_size"):  # files cannot grow beyond so many bytes: a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
    import jax

    for name, value in order.get("config", {}).items():
        jax.config.update(name, value)
    if order.get("events"):
        watch(Events(order["events"]))
    sys.argv = [order["module"], *order["argv"]]
    script = importlib.import_module(order["module"])
    if order["module"].startswith("experiments."):
        importlib.import_module("experiments.common").run(script.main)
    else:
        sys.exit(script.main())


def main() -> None:
    for name in ("prepare", "train", "evaluate", "recommend", "common"):
        importlib.import_module(f"experiments.{name}")
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            try:
                child(order)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
