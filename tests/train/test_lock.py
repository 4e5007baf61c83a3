import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.train.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from mtl_jax.train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_one_is_refused_naming_process_and_host(holder, tmp_path):
    who = f"process {holder.pid} on {socket.gethostname()} is training there"
    with pytest.raises(UserError, match=rf"--workdir={tmp_path}: {who}"), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_survives_no_crash(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    with locked(tmp_path):
        told = json.loads((tmp_path / ".lock").read_text())
        assert told == {"process": os.getpid(), "host": socket.gethostname()}


def test_it_is_given_back(tmp_path):
    for _ in range(2):
        with locked(tmp_path), pytest.raises(UserError), locked(tmp_path):
            pass
