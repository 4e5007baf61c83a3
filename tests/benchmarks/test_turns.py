"""The harness: statistics, turns, dropped samples, what a worker cannot do. No time is asserted."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import turns
from benchmarks.machine import Ticks, others_share
from benchmarks.report import Row, table
from benchmarks.spread import Spread, ratio, spread
from benchmarks.turns import Entry, Unavailable, Worker, interleave

SERVER = """
import sys
from benchmarks.turns import serve

def run(steps, each):
    print("noise on stdout")
    return steps * each

def fail():
    raise ValueError("no such thing\\nand more")

serve({"run": run, "fail": fail, "die": lambda: sys.exit(3)})
"""


@pytest.fixture
def worker(tmp_path):
    here = {"PYTHONPATH": str(Path(turns.__file__).resolve().parents[1])}
    with Worker("echo", [sys.executable, "-c", SERVER], tmp_path / "log", here) as found:
        yield found


def test_median_and_percentiles():
    found = spread([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (found.median, found.low, found.high, found.n) == (3.0, 1.4, 4.6, 5)


def test_ratios_are_taken_round_by_round_where_both_were_measured():
    found = ratio([2.0, None, 9.0, 8.0], [1.0, 1.0, 3.0, None])
    assert found == Spread(2.5, 2.1, 2.9, 2)
    assert ratio([None], [1.0]) is None


def test_the_share_of_others_leaves_out_the_one_that_runs():
    before = Ticks(total=1000, busy=500, own={1: 100, 2: 50})
    after = Ticks(total=1200, busy=680, own={1: 240, 2: 70})
    assert np.isclose(others_share(before, after), (180 - 140 - 20) / 200)
    assert np.isclose(others_share(before, after, runner=1), (180 - 140) / 200)


def test_a_worker_answers_and_what_it_prints_does_not_disturb(worker):
    assert worker.call("run", steps=3, each=0.5) == 1.5
    assert worker.call("run", steps=2, each=0.5) == 1.0


def test_what_a_worker_cannot_do_is_said_and_it_lives_on(worker):
    with pytest.raises(Unavailable, match=r"ValueError: no such thing$"):
        worker.call("fail")
    assert worker.call("run", steps=1, each=2.0) == 2.0


def test_a_worker_that_died_is_unavailable(worker):
    for _ in range(2):
        with pytest.raises(Unavailable, match="echo died in die"):
            worker.call("die")


def test_rounds_go_there_and_back_and_busy_samples_are_dropped(worker, monkeypatch):
    asked = []

    def run(self, steps=0):
        asked.append(self.name)
        return float(len(asked))

    shares = iter([0.0, 0.5, 0.5, 0.0, 0.0])
    monkeypatch.setattr(Entry, "run", run)
    monkeypatch.setattr(turns, "others_share", lambda *_: next(shares))
    entries = [Entry(name, worker, {}, 1) for name in "ab"]
    found = interleave(entries, 2, [worker.pid], most=0.1, tries=2)
    assert asked == ["a", "b", "b", "b", "a"], "a sample in bad company is taken again"
    assert found.seconds == {"a": [1.0, 5.0], "b": [None, 4.0]}
    assert (found.dropped, found.busiest) == (2, 0.5)


def test_an_entry_gives_seconds_a_step(worker):
    assert Entry("x", worker, {"each": 0.25}, 4).run() == 0.25


@pytest.mark.parametrize(
    ("kind", "value", "wanted", "met"),
    [
        ("speedup", 5.1, 5.0, True),
        ("speedup", 4.9, 5.0, False),
        ("overhead", 1.2, 1.25, True),
        ("share", 0.03, 0.02, False),
        ("share", 0.03, None, None),
    ],
)
def test_a_speedup_is_bounded_below_and_all_else_above(kind, value, wanted, met):
    row = Row("b", "c", kind, Spread(value, value, value, 3), wanted, floor_ratio=2.0)
    assert row.met is met
    assert row.as_dict()[kind] == value
    assert ("**no**" in table([row])) == (met is False)


def test_a_row_that_is_missing_says_why():
    row = Row("b", "c", "speedup", None, 5.0, "torchjd is not installed")
    assert row.met is None
    assert row.as_dict()["missing"] in table([row])
