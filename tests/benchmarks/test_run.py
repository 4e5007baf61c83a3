"""The runner of the suites: what it calls, what it merges, what it says of what is not there."""

import json
from dataclasses import asdict

import pytest

from benchmarks import run
from benchmarks.report import Row
from benchmarks.spread import Spread

ROW = Row("a", "x", "overhead", Spread(1.2, 1.1, 1.3, 5), 1.1, "", 2.0, {"ours_ms": 3.0})


@pytest.fixture
def given(tmp_path):
    return run.flags_of([f"--out={tmp_path}", "--quick"])


def test_a_row_comes_back_from_its_flat_form():
    assert asdict(run.row_of(ROW.as_dict())) == asdict(ROW)
    missing = Row("a", "y", "speedup", None, 2.0, "no torch")
    assert asdict(run.row_of(missing.as_dict())) == asdict(missing)


def test_every_benchmark_gets_the_flags_that_it_knows(given):
    given.libmtl, given.peer_python = "/clone", "/python"
    words = {b.name: run.command(b, given)[2:] for b in run.BENCHES}
    assert words["lanes"] == ["benchmarks.lanes", f"--out={given.out}", "--quick"]
    assert words["cached"][-2:] == ["--suite=cpu", "--peer_python=/python"]
    assert words["balancing"][-2:] == ["--peer_python=/python", "--libmtl=/clone"]
    given.quick = False
    for suite, wanted in (
        ("cpu", ["encoder", "lanes", "scaling", "balancing"]),
        ("gpu", ["balancing"]),
    ):
        given.suite = suite
        assert [b.name for b in run.BENCHES if "--quick" in run.command(b, given)] == wanted


def test_what_fails_or_is_not_there_is_a_row_and_the_rest_is_merged(given, tmp_path, monkeypatch):
    names = ("a", "b", "nowhere")
    monkeypatch.setattr(run, "BENCHES", tuple(run.Bench(n, (1, 1)) for n in names))
    monkeypatch.setattr(run, "HERE", tmp_path)
    for name in names[:2]:
        (tmp_path / f"{name}.py").write_text("")
    found = json.dumps({"versions": {"jax": "1"}, "rows": [ROW.as_dict()]})
    write = f"open({str(tmp_path / 'a.json')!r}, 'w').write({found!r})"
    scripts = {"a": write, "b": "raise SystemExit('no card')"}
    monkeypatch.setattr(run, "command", lambda b, _: [run.sys.executable, "-c", scripts[b.name]])
    run.main([f"--out={tmp_path}"])
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["versions"] == {"jax": "1"}
    assert [r["case"] for r in result["rows"]] == ["x", "b", "nowhere"]
    assert result["rows"][1]["missing"] == "status 1: no card"
    assert "is not there" in result["rows"][2]["missing"]
    text = (tmp_path / "results.md").read_text()
    assert "kept: 0 of 1" in text
    assert "- a: x" in text


def test_one_that_takes_too_long_is_stopped(given, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "slow.py").write_text("")
    sleep = [run.sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(run, "command", lambda b, _: sleep)
    monkeypatch.setattr(run, "LEAST", 0.0)
    assert "stopped after" in run.run_one(run.Bench("slow", (1, 1)), given, 0.2)
    monkeypatch.setattr(run, "LEAST", 20.0)
    assert "no time is left" in run.run_one(run.Bench("slow", (1, 1)), given, 5.0)
