"""One training at a time on a working folder."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtl_jax.core.errors import UserError


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold workdir/.lock. The kernel lets go of it when the process ends, however it ends.

    Raises UserError naming process and host of the training that holds it.
    """
    path = workdir / ".lock"
    try:
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"--workdir: cannot write to {path}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--workdir={workdir}: {_holder(path)} is training there: wait for it, stop it, "
                "or use another --workdir"
            ) from None
        except OSError as error:
            raise UserError(f"--workdir: cannot lock {path}: {error.strerror}") from None
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield


@contextmanager
def in_turn(workdir: Path) -> Iterator[None]:
    """One process of those that start together at a time; waits for its turn."""
    with (workdir / ".turn").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text())
        return f"process {told['process']} on {told['host']}"
    except (OSError, ValueError, KeyError):  # it is just about to write it
        return "another process"
