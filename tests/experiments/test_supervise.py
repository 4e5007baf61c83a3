"""The supervisor over small scripts: crashes, hangs, bad input, signals; no jax in them."""

import re
import signal
import subprocess
import sys
import time

import pytest

from runs import ROOT

# Appends a line to the file at argv[1] and then does what argv[2] says at the n-th start.
CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
path, does = Path(sys.argv[1]), sys.argv[2].split(",")
with path.open("a") as file:
    file.write(" ".join(sys.argv[3:]) + chr(10))
n = len(path.read_text().splitlines()) - 1
what = does[min(n, len(does) - 1)]
beats = Path(os.environ["MTL_JAX_HEARTBEAT"])
if what == "hang":
    beats.touch()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(f"{path}.child").write_text(str(child.pid))
    time.sleep(600)
if what == "slow":
    for _ in range(8):
        time.sleep(0.25)
        beats.touch()
if what == "saves":
    def save(*_):
        print("saved", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print("ready", flush=True)
    time.sleep(600)
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(what) if what.isdigit() else 0)
"""


@pytest.fixture
def supervise(tmp_path):
    """Start the supervisor over CHILD, which does `does` at its starts."""
    started = []

    def start(does, *flags):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "starts"), does]
        flags = ["--pause=0.01", *flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.supervise", *flags, "--", *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait()


@pytest.fixture
def outcome(supervise, tmp_path):
    """(exit status, output, number of starts)."""

    def run(does, *flags):
        process = supervise(does, *flags)
        output, _ = process.communicate(timeout=120)
        starts = (tmp_path / "starts").read_text().splitlines()
        return process.returncode, output, len(starts)

    return run


def test_what_crashes_is_started_again_until_it_ends(outcome):
    status, output, starts = outcome("1,kill,0")
    assert (status, starts) == (0, 3)
    assert "process 0 ended with status 1" in output
    assert "process 0 was killed by SIGKILL" in output
    assert "restart 2 of 3" in output


def test_it_gives_up_after_so_many_restarts(outcome):
    status, output, starts = outcome("7", "--restarts=2")
    assert (status, starts) == (7, 3)
    assert "gave up after 2 restarts" in output


def test_bad_input_is_not_tried_again(outcome):
    status, output, starts = outcome("2")
    assert (status, starts) == (2, 1)
    assert "not restarted" in output


def test_what_hangs_is_killed_with_all_that_it_started(outcome, tmp_path):
    status, output, starts = outcome("hang,0", "--hang_after=1")
    assert (status, starts) == (0, 2)
    assert "process 0 has made no step for 1 s: killed" in output
    child = int((tmp_path / "starts.child").read_text())
    for _ in range(1000):  # init reaps it
        if not alive(child):
            break
        time.sleep(0.01)
    assert not alive(child)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_slow_is_not_hung(outcome):
    status, output, starts = outcome("slow", "--hang_after=1.5")
    assert (status, starts) == (0, 1), output


def test_a_start_that_takes_too_long_is_a_hang_too(outcome):
    status, output, starts = outcome("saves", "--start_after=0.5", "--restarts=1")
    assert (status, starts) == (1, 2)
    assert "no step for 0.5 s" in output


def test_sigterm_is_passed_on_and_a_saved_end_is_an_end(supervise):
    process = supervise("saves")
    seen = []
    while "ready" not in seen:
        seen.append(process.stdout.readline().strip())
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "saved" in output
    assert "restart" not in output


def test_several_processes_are_told_of_each_other_and_end_together(supervise, tmp_path):
    process = supervise("saves,saves", "--processes=2", "--restarts=0")
    told = ""
    while told.count("ready") < 2 or "process 0" not in told:
        assert process.poll() is None, told
        told += process.stdout.readline()
    first = int(re.search(r"process 0 \((\d+)\)", told)[1])
    flags = sorted(line.split() for line in (tmp_path / "starts").read_text().splitlines())
    assert [f[1:] for f in flags] == [["--processes=2", f"--process={k}"] for k in (0, 1)]
    assert flags[0][0] == flags[1][0]
    assert re.fullmatch(r"--coordinator=localhost:\d+", flags[0][0])
    subprocess.run(["kill", "-9", str(first)], check=True)
    process.send_signal(signal.SIGTERM)  # the other one saves: no need to wait for its grace
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 137
    assert output.count("saved") == 1
