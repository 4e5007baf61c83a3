"""Whole trainings: damaged checkpoints, a held lock, a full disk, other devices, lost processes."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from test_checksums import files, flip
from test_kills import assert_same_end, lines_of, metrics_of

from mtl_jax.train.lock import locked
from runs import CONFIG, FAST, KILL, ROOT, TERM

# As the zygote has it: other flags of the compiler give other bits.
ENV = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": FAST,
}
TWO = "--xla_force_host_platform_device_count=2"


def error_of(process):
    """The message of a script that refused: status 2, no traceback, one error, the last line."""
    status, output = process.wait(), process.output()
    assert status == 2, output[-3000:]
    assert "Traceback" not in output
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert told == output.splitlines()[-1:]
    return told[0]


def without(workdir, step, to):
    """A copy of a finished run as if it had been killed before it saved `step`."""
    shutil.copytree(workdir, to)
    shutil.rmtree(to / "checkpoints" / str(step))
    (to / "metrics.json").unlink()
    return to


def steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_a_damaged_checkpoint_is_told_by_all_who_read_it(tiny, zygote, tmp_path):
    workdir = shutil.copytree(tiny.workdir, tmp_path / "run")
    whole = steps(workdir)
    last = workdir / "checkpoints" / str(whole[-1])
    flip(max(files(last / "state"), key=lambda p: p.stat().st_size), random.Random(0))
    process = zygote.run("experiments.evaluate", f"--workdir={workdir}", "--replicates=2")
    assert process.status == 0, process.output()[-3000:]
    told = f"checkpoint {whole[-1]} is damaged and left out: {last}/state/"
    assert told in process.output()
    assert last.exists(), "evaluate only reads"
    asked = [f"--workdir={workdir}", f"--step={whole[-1]}"]
    message = error_of(zygote.run("experiments.evaluate", *asked))
    assert f"--step={whole[-1]} is damaged" in message
    assert f"there are whole steps {whole[:-1]}" in message

    (workdir / "metrics.json").unlink()  # which evaluate added to
    process = zygote.train(workdir, tiny.data)
    assert_same_end(tiny, process, workdir)
    assert told in process.output()
    assert steps(workdir) == whole
    journal = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [x["checkpoint"] for x in journal if x["kind"] == "damaged"] == [whole[-1]]


def test_a_folder_in_use_or_of_another_stream_is_refused(tiny, zygote):
    with locked(tiny.workdir):
        assert re.search(
            r"--workdir=\S+: process \d+ on \S+ is training there", error_of(zygote.train(
                tiny.workdir, tiny.data))
        )  # fmt: skip
    message = error_of(zygote.train(tiny.workdir, tiny.data, "batch.workers=2"))
    assert "another config (batch.workers was 1, is 2)" in message


def test_a_full_disk_leaves_the_last_step_and_says_what_to_do(tiny, zygote, tmp_path):
    workdir = without(tiny.workdir, 12, tmp_path / "run")
    before = steps(workdir)
    largest = max(p.stat().st_size for p in files(workdir / "checkpoints"))
    process = zygote.train(workdir, tiny.data, file_size=largest // 2)
    message = error_of(process)
    assert f"--workdir={workdir}: a checkpoint could not be saved" in message
    assert f"(File too large); step {before[-1]} is whole. Make room and start again" in message
    assert steps(workdir) == before
    assert_same_end(tiny, zygote.train(workdir, tiny.data), workdir)
    assert not list((workdir / "checkpoints").glob("*tmp*")), "what was left is removed"


def losses(workdir, after):
    found = [x for x in lines_of(workdir) if x["kind"] == "train" and x["step"] > after]
    return np.array([[v for k, v in x.items() if k.startswith("loss/")] for x in found])


@pytest.mark.soak
def test_a_run_goes_on_on_another_number_of_devices(tiny, zygote, tmp_path):
    options = ["model.dropout=0.0", "model.id_dropout=0.0", "train.monitor=", "train.eval_part="]
    options.append(tiny.data)
    whole = tmp_path / "two"
    process = zygote.train(whole, *options, xla_flags=TWO)
    assert process.wait() == 0, process.output()[-3000:]
    workdir = without(whole, 12, tmp_path / "one")
    start = steps(workdir)[-1]
    process = zygote.train(workdir, *options)
    assert process.wait() == 0, process.output()[-3000:]
    assert f"resuming from step {start}" in process.output()
    off = np.abs(losses(workdir, start) - losses(whole, start))
    print(f"two devices, then one from step {start} on: losses differ by at most {off.max():.1e}")
    assert off.shape == (12 - start, 5)
    assert off.max() < 1e-5

    workdir = without(whole, 12, tmp_path / "four")
    process = zygote.train(workdir, *options, xla_flags=TWO.replace("2", "4"))
    assert "2 data shards, which cannot be spread over 4 devices" in error_of(process)


SMALL = """
set -e
mount -t tmpfs -o size={size}k tmpfs {folder}
{train} && exit 9 || status=$?
test $status -eq 2
ls {folder}/run/checkpoints > {out}.steps
mount -o remount,size=50m {folder}
{train}
cp -r {folder}/run {out}
"""


@pytest.mark.soak
def test_a_disk_that_is_really_full(tiny, tmp_path):
    """On file systems of some sizes, too small for three checkpoints; then room is made."""
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    lost = 0
    sizes = [260, 420, 560, 700, 850]
    for size in sizes:
        folder, out = tmp_path / f"small-{size}", tmp_path / f"out-{size}"
        folder.mkdir()
        train = (
            f"{sys.executable} -m experiments.train --config={CONFIG} --set={tiny.data} "
            f"--workdir={folder}/run --set=train.checkpoint_every=1"
        )
        script = SMALL.format(size=size, folder=folder, train=train, out=out)
        found = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script],
            cwd=ROOT, env=ENV, capture_output=True, text=True,
        )  # fmt: skip
        told = found.stderr + found.stdout
        assert found.returncode == 0, told[-3000:]
        assert "Traceback" not in told
        assert re.search(r"error: .*(No space left on device).*[Mm]ake room and start again", told)
        left = [int(name) for name in Path(f"{out}.steps").read_text().split()]
        went_on = re.search(r"resuming from step (\d+)", told)
        lost += bool(left) and (not went_on or int(went_on[1]) != left[-1])
        print(f"disk of {size} kB: full after step {max(left, default=0)}")
        assert lines_of(out) == lines_of(tiny.workdir)
    print(f"full disks: {len(sizes)} tried, {lost} steps lost")
    assert lost == 0


class Together:
    """Two processes under the supervisor."""

    def __init__(self, workdir, data, *more):
        self.workdir, self.log = workdir, workdir.with_suffix(".log")
        train = [
            sys.executable, "-m", "experiments.train", f"--config={CONFIG}", f"--set={data}",
            f"--workdir={workdir}", "--set=train.checkpoint_every=2", *more,
        ]  # fmt: skip
        command = [sys.executable, "-m", "experiments.supervise", "--processes=2", "--pause=0.1"]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "--", *train], stdout=file, stderr=file, cwd=ROOT, env=ENV
            )

    def output(self):
        return self.log.read_text()

    def wait_for_step(self, step):
        path = self.workdir / "metrics.jsonl"
        while not path.exists() or f'"step": {step},' not in path.read_text():
            assert self.process.poll() is None, self.output()[-3000:]
            time.sleep(0.005)

    def pids(self):
        return [int(p) for p in re.findall(r"process \d \((\d+)\)", self.output())][-2:]

    def wait(self):
        assert self.process.wait(timeout=900) == 0, self.output()[-5000:]


def alive(pid):
    path = Path(f"/proc/{pid}/stat")
    try:
        return path.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def send(pid, number):
    subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)


def same_state(a, b):
    """Whether two runs ended with the same arrays."""
    found = []
    for workdir in (a, b):
        with ocp.PyTreeCheckpointer() as reader:
            path = workdir / "checkpoints" / "12" / "state"
            tree = reader.metadata(path).item_metadata.tree
            whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            tree = reader.restore(path, restore_args=whole)
        found.append([np.asarray(x).tobytes() for x in jax.tree.leaves(tree)])
    assert found[0]
    return found[0] == found[1]


@pytest.mark.soak
def test_one_of_two_processes_is_lost_both_start_again_and_the_result_is_the_same(tiny, tmp_path):
    whole = Together(tmp_path / "whole", tiny.data)
    whole.wait()
    tries = [(1, 5), (0, 6), (1, 9), (0, 3)]
    same, resumed, seconds = 0, 0, []
    for n, (victim, step) in enumerate(tries):
        run = Together(tmp_path / f"killed-{n}", tiny.data)
        run.wait_for_step(step)
        pids = run.pids()
        send(pids[victim], KILL)
        start = time.monotonic()
        while alive(pids[1 - victim]):
            assert time.monotonic() - start < 90, "it would hang for 98 s"
            time.sleep(0.01)
        seconds.append(time.monotonic() - start)
        run.wait()
        output = run.output()
        assert f"process {victim} was killed by SIGKILL" in output
        # Where process 0 goes, which the others listen to, jax itself ends them with its words.
        assert re.search(r"another process of this training has ended|another task died", output)
        resumed += "resuming from step" in output  # not if it was killed before its first save
        assert metrics_of(run.workdir) == metrics_of(whole.workdir)
        assert lines_of(run.workdir) == lines_of(whole.workdir)
        same += same_state(run.workdir, whole.workdir)
    print(f"processes: {len(tries)} killed, the other ended within {max(seconds):.1f} s, "
          f"{resumed} went on from a checkpoint, {same} results equal bit for bit")  # fmt: skip
    assert same == len(tries)
    assert resumed >= 2


@pytest.mark.soak
def test_two_processes_that_are_told_to_stop_do_so_after_the_same_step(tiny, tmp_path):
    run = Together(tmp_path / "told", tiny.data)
    run.wait_for_step(4)
    run.process.send_signal(TERM)
    run.wait()
    assert run.output().count("stopped by a signal") == 2
    saved = steps(run.workdir)[-1]
    assert saved >= 4
    again = Together(run.workdir, tiny.data)
    again.wait()
    assert again.output().count(f"resuming from step {saved} of 12") == 2
