"""The peak of a run, and the library that torch is given on processors of other makers."""

import subprocess
import sys

import pytest

from benchmarks import peak
from benchmarks.turns import Unavailable


class Said:
    """A worker that answers what it is told to."""

    def __init__(self, name, *answers):
        self.name, self.answers = name, list(answers)

    def call(self, do):
        found = self.answers.pop(0)
        if isinstance(found, str):
            raise Unavailable(found)
        return found


def test_the_highest_of_each_worker_and_of_all_stays():
    known = {}
    one = Said("one", {"gflops": 3.0, "gbytes": 9.0}, {"gflops": 5.0, "gbytes": 1.0})
    two = Said("two", {"gflops": 4.0, "gbytes": 2.0}, "gone")
    assert peak.of_workers((one, two), known) == "gone"
    assert known["one"] == {"gflops": 5.0, "gbytes": 9.0}
    assert known["two"] == {"gflops": 4.0, "gbytes": 2.0}
    assert known["best"] == {"gflops": 5.0, "gbytes": 9.0}
    later = Said("two", {"gflops": 7.0, "gbytes": 2.0})
    peak.of_workers((later,), known, rounds=1)
    assert known["best"] == {"gflops": 7.0, "gbytes": 9.0}


def test_the_library_answers_mkls_question_or_says_why_there_is_none(tmp_path):
    try:
        env = peak.preload(tmp_path)
    except RuntimeError as error:
        pytest.skip(str(error))
    ask = "import ctypes, sys; sys.exit(41 + ctypes.CDLL(None).mkl_serv_intel_cpu_true())"
    assert subprocess.run([sys.executable, "-c", ask], env=env).returncode == 42


def test_without_a_compiler_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="compiler|AVX-512"):
        peak.preload(tmp_path)


def test_a_library_that_gains_nothing_does_not_help():
    assert peak.helps({"gflops": 100.0}, {"gflops": 120.0})
    assert not peak.helps({"gflops": 100.0}, {"gflops": 105.0})
