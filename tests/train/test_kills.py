"""Runs that are killed, told to stop, and started again end bit-equal to the unbroken one."""

import json
import random
import time
from contextlib import suppress

import numpy as np
import pytest

from mtl_jax.train.journal import LINES
from runs import KILL, TERM


def end_of(process):
    """Digest of the state that a run ended with."""
    return next(e for e in process.events() if e["what"] == "trained")["state"]


def metrics_of(workdir):
    return json.loads((workdir / "metrics.json").read_text())


def assert_same_end(tiny, process, workdir):
    assert process.wait() == 0, process.output()[-4000:]
    assert end_of(process) == tiny.state
    assert metrics_of(workdir) == tiny.metrics
    assert lines_of(workdir) == lines_of(tiny.workdir)


def lines_of(workdir):
    """What metrics.jsonl tells of training and evaluation, without speeds."""
    lines = [json.loads(line) for line in (workdir / LINES).read_text().splitlines()]
    kept = [line for line in lines if line["kind"] in ("train", "eval")]
    for line in kept:
        line.pop("examples_per_second", None)
        line.pop("input_wait", None)
    return kept


def count(events, what):
    return sum(e["what"] == what for e in events)


def open_parts(events):
    """What had begun and not ended."""
    return {
        part
        for part in ("save", "evaluation")
        if count(events, f"{part} begins") > count(events, f"{part} ends")
    }


def last_step(events):
    return max((e["step"] for e in events if e["what"] == "step"), default=0)


def least_seconds(tiny, part):
    begins = [e["time"] for e in tiny.events if e["what"] == f"{part} begins"]
    ends = [e["time"] for e in tiny.events if e["what"] == f"{part} ends"]
    return float(np.min(np.subtract(ends, begins)))


def kill_once(tiny, zygote, workdir, aim, rng, span, upto):
    """Kill -9 a run at a moment drawn from `rng`; (where it was, the moment in words)."""
    process = zygote.train(workdir, tiny.data)
    if aim == "anywhere":
        process.wait_until(lambda e: count(e, "waits") > 0)
        delay = rng.uniform(0, span)
    else:
        which = rng.randint(1, upto)
        process.wait_until(lambda e: count(e, f"{aim} begins") >= which)
        # A save goes on beside the steps once `save` has returned: its files lie in a folder of
        # another name until they are whole.
        delay = rng.uniform(0, 0.6 * least_seconds(tiny, aim))
    time.sleep(delay)
    with suppress(ProcessLookupError):  # it may have come to its end
        process.send(KILL)
    status = process.wait()
    events = process.events()
    began = events[0]["time"] if events else time.time()
    left = (workdir / "checkpoints").glob("*tmp*")
    unfinished = [p for p in left if p.stat().st_mtime > began]  # not of a kill before
    where = open_parts(events) | ({"save"} if unfinished else set())
    place = f"inside {', '.join(sorted(where))}" if where else "in neither save nor evaluation"
    if status == 0:
        place, where = "after its end", set()
    return where, f"{aim:10} +{delay:6.3f} s  after step {last_step(events):2}  {place}"


def kills(tiny, zygote, workdirs, aims, seed, span, upto=1):
    """Kill a run in each of `workdirs` at moments aimed at; an aim that misses is taken again.

    span: seconds over which "anywhere" is uniform.  upto: the last of its saves or evaluations
    that is aimed at.
    """
    rng, found = random.Random(seed), []
    for aim, workdir in zip(aims, workdirs, strict=True):
        for _ in range(4):
            where, moment = kill_once(tiny, zygote, workdir, aim, rng, span, upto)
            print(f"kill {seed}.{len(found)}: {moment}", flush=True)
            found.append(where)
            if aim == "anywhere" or aim in where:
                break
    return found


def test_kill_9_at_drawn_moments_changes_nothing(tiny, zygote, tmp_path):
    workdir = tmp_path / "killed"
    aims, span = ["save", "evaluation", "anywhere"], 4.0
    found = kills(tiny, zygote, [workdir] * 3, aims, seed=1, span=span)
    assert_same_end(tiny, zygote.train(workdir, tiny.data), workdir)
    assert any("save" in where for where in found)
    assert any("evaluation" in where for where in found)


@pytest.mark.soak
def test_twenty_kills_six_in_a_save_four_in_evaluation(tiny, zygote, tmp_path):
    process, found = zygote.train(tmp_path / "warm", tiny.data), []
    assert_same_end(tiny, process, tmp_path / "warm")
    told = process.events()
    span = told[-1]["time"] - told[0]["time"]  # of a run that finds its programs compiled
    for n, aim in enumerate(["anywhere"] * 10 + ["save"] * 6 + ["evaluation"] * 4):
        workdir = tmp_path / f"killed-{n}"
        found += kills(tiny, zygote, [workdir], [aim], seed=n, span=span, upto=3)
        assert_same_end(tiny, zygote.train(workdir, tiny.data), workdir)
    assert len(found) >= 20
    assert sum("save" in where for where in found) >= 5
    assert sum("evaluation" in where for where in found) >= 3


def checkpoints(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_sigterm_in_a_step_during_compilation_and_in_evaluation(tiny, zygote, tmp_path):
    workdir = tmp_path / "told"
    process = zygote.train(workdir, tiny.data)
    process.wait_until(lambda e: last_step(e) >= 2)
    process.send(TERM)
    assert process.wait() == 0, process.output()[-3000:]
    assert "stopped by a signal" in process.output()
    saved = checkpoints(workdir)
    assert saved, "the step at which it stopped is saved"
    assert saved[-1] >= 2

    # Nothing is taken from the cache, so that the compiler is at work when the signal comes.
    process = zygote.train(workdir, tiny.data, config={"jax_enable_compilation_cache": False})
    process.wait_until(lambda e: "compiling" in process.output())
    time.sleep(1.0)
    process.send(TERM)
    assert process.wait() == 0, process.output()[-3000:]
    assert "stopped by a signal" in process.output()
    assert last_step(process.events()) == 0, "it never got through the compiler"
    assert checkpoints(workdir) == saved

    process = zygote.train(workdir, tiny.data)
    process.wait_until(lambda e: "evaluation" in open_parts(e))
    process.send(TERM)
    assert process.wait() == 0, process.output()[-3000:]
    assert "stopped by a signal" in process.output()
    assert f"resuming from step {saved[-1]}" in process.output()

    assert_same_end(tiny, zygote.train(workdir, tiny.data), workdir)


def test_a_finished_run_started_again_changes_nothing(tiny, zygote, tmp_path):
    before = {p: p.read_bytes() for p in [tiny.workdir / "metrics.json"]}
    process = zygote.train(tiny.workdir, tiny.data)
    assert process.wait() == 0
    assert end_of(process) == tiny.state
    assert last_step(process.events()) == 0
    assert all(path.read_bytes() == data for path, data in before.items())
