"""The loop around a step of one line: resume, best step, early stop, signals, broken updates."""

import json
import random
import shutil
import threading
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.train import fetch
from mtl_jax.train.config import TrainConfig
from mtl_jax.train.lock import locked
from mtl_jax.train.loop import Progress, Run, train
from mtl_jax.train.mesh import make_mesh
from mtl_jax.train.monitor import check_monitor, monitored
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.state import TrainState

pytestmark = pytest.mark.usefixtures("quick_compilation")
TASKS = (TaskSpec("click", "binary", "click"), TaskSpec("rating", "regression", "rating"))
TOTAL = 12


@dataclass(frozen=True)
class Stream:
    """Batch k is drawn from k alone; `broken` steps hold a NaN."""

    broken: tuple[int, ...] = ()
    wide: tuple[int, ...] = ()
    steps_per_epoch: int = 4
    assembler: Any = field(
        default_factory=lambda: SimpleNamespace(config=SimpleNamespace(size=8, workers=1))
    )

    def batch(self, step: int) -> dict[str, np.ndarray]:
        x = np.random.default_rng([9, step]).normal(size=(1, 1, 8)).astype(np.float32)
        if step in self.broken:
            x[0, 0, 3] = np.nan
        return {"x": x, "items/id": np.zeros((1, 1, 6 if step in self.wide else 3), np.int32)}

    def example(self) -> dict[str, np.ndarray]:
        return self.batch(0)


def one_step(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
    """A weighted mean of noisy inputs; nothing is applied where they are not finite."""
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), ())
    loss = jnp.stack([jnp.float32(1.0), jnp.sum(batch["x"])])
    finite = jnp.isfinite(loss).all()
    w = jnp.where(finite, 0.9 * state.params["w"] + batch["x"].mean() + noise, state.params["w"])
    metrics = {
        "loss_sum": loss,
        "count": jnp.ones(2),
        "weights": jnp.ones(2),
        "grad_norm": jnp.float32(1),
        "update_norm": jnp.float32(1),
        "param_norm": jnp.float32(1),
        "finite": finite,
    }
    return replace(state, step=state.step + 1, params={"w": w}), metrics


@cache
def creator() -> Any:
    def make() -> TrainState:
        w = jnp.arange(3.0)
        key = jax.random.PRNGKey(5)
        return TrainState(jnp.zeros((), jnp.int32), {"w": w}, {}, {}, {}, (), key)

    return jax.jit(make)


def run_of(workdir: Path, stream: Stream | None = None, meta: Any = None, **options: Any) -> Run:
    config = TrainConfig(**{"steps": TOTAL, "log_every": 1, "eval_every": 3} | options)
    workdir.mkdir(parents=True, exist_ok=True)
    return Run(
        SimpleNamespace(tasks=TASKS), stream or Stream(), config, make_mesh(1), one_step, creator(),
        config.steps, workdir, meta or {"config": {"train": {"steps": TOTAL}}, "data": "d"},
    )  # fmt: skip


def scored(values: dict[int, float] | None = None, task: str = "click", metric: str = "auc") -> Any:
    """An evaluation that gives `values[step]`, or something of the parameters."""

    def evaluate(state: TrainState) -> dict[str, Any]:
        value = float(state.params["w"][0]) if values is None else values[int(state.step)]
        return {task: {"all": {metric: {"value": value}}}}

    return evaluate


def quiet(run: Run, evaluate: Any = None, preemption: Any = None) -> Any:
    return train(run, evaluate or scored(), preemption or Preemption(), quiet=True)


def bits(state: TrainState) -> bytes:
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state))


def lines(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def steps_on_disk(workdir: Path) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


class StopsAt(Preemption):
    """A signal that has come once the loop asks for the n-th time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def wait_for(self, work: Any) -> Any:
        return work()

    def check(self, step: int | None = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise Preempted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run: (state, progress, step), and its folder."""
    workdir = tmp_path_factory.mktemp("whole")
    return quiet(run_of(workdir)), workdir


@pytest.mark.parametrize("steps", [1, 5, 6, 11])
def test_a_stopped_run_that_resumes_is_bit_equal_to_an_unbroken_one(whole, tmp_path, steps):
    (state, progress, _), folder = whole
    with pytest.raises(Preempted):
        quiet(run_of(tmp_path), preemption=StopsAt(steps))
    assert steps_on_disk(tmp_path)[-1] == steps
    assert lines(tmp_path)[-1] == {"step": steps, "kind": "preempted"}
    again = quiet(run_of(tmp_path))
    assert bits(again[0]) == bits(state)
    assert vars(again[1]) == vars(progress)

    def told(workdir):
        kept = [x for x in lines(workdir) if x["kind"] in ("train", "eval")]
        clocks = ("examples_per_second", "input_wait")
        return [{k: v for k, v in x.items() if k not in clocks} for x in kept]

    assert told(tmp_path) == told(folder), "no line is missing and none is told twice"
    assert {"step": steps, "kind": "resume"} in lines(tmp_path)


def test_the_journal_tells_of_the_start_and_of_waiting(whole):
    told = lines(whole[1])
    (start,) = [x for x in told if x["kind"] == "start"]
    parts = ("model", "state", "batch", "compile", "first_step")
    assert start["seconds"] == pytest.approx(sum(start[k] for k in parts))
    assert min(start[k] for k in (*parts, "compiling")) > 0
    assert told.index(start) == 0
    waits = [x["input_wait"] for x in told if x["kind"] == "train"]
    assert len(waits) == TOTAL
    assert all(0 <= x < 1 for x in waits)
    assert any(waits)


def test_the_commonest_shape_is_compiled_before_the_state_is_there(tmp_path, monkeypatch):
    run, began, made = run_of(tmp_path), threading.Event(), creator()

    def step(state: TrainState, batch: Any) -> Any:
        began.set()
        return one_step(state, batch)

    def create() -> TrainState:
        if not isinstance(jnp.zeros(()), jax.core.Tracer):
            assert began.wait(60)
        return made()

    assert quiet(replace(run, step=step, create=create))[2] == TOTAL
    began.clear()
    assert quiet(replace(run, step=step))[2] == TOTAL
    assert not began.is_set(), "a finished run has nothing to compile"


def test_a_signal_in_evaluation_stops_and_the_evaluation_comes_again(whole, tmp_path):
    def interrupted(state):
        if int(state.step) == 6:
            raise Preempted
        return scored()(state)

    with pytest.raises(Preempted):
        quiet(run_of(tmp_path), interrupted)
    assert steps_on_disk(tmp_path)[-1] == 6
    again = quiet(run_of(tmp_path))
    assert bits(again[0]) == bits(whole[0][0])
    assert vars(again[1]) == vars(whole[0][1])


def test_the_best_step_is_kept_and_restored_exactly(tmp_path):
    values = {3: 0.5, 6: 0.9, 9: 0.7, 12: 0.6}
    seen = {}

    def evaluate(state):
        seen[int(state.step)] = bits(state)
        return scored(values)(state)

    state, progress, step = quiet(run_of(tmp_path, monitor="click/auc"), evaluate)
    assert (step, progress.best, progress.best_step) == (6, 0.9, 6)
    assert bits(state) == seen[6]
    assert steps_on_disk(tmp_path) == [6, 9, 12], "the latest two and the best"


def test_the_best_step_outlives_restarts(tmp_path):
    values = {3: 0.9, 6: 0.8, 9: 0.7, 12: 0.6}
    options = {"monitor": "click/auc", "checkpoint_every": 1}
    for steps in (4, 3):
        with pytest.raises(Preempted):
            quiet(run_of(tmp_path, **options), scored(values), StopsAt(steps))
        assert 3 in steps_on_disk(tmp_path)
    state, progress, step = quiet(run_of(tmp_path, **options), scored(values))
    assert (step, progress.best_step) == (3, 3)
    assert int(state.step) == 3
    assert steps_on_disk(tmp_path) == [3, 11, 12]


def test_a_loss_is_better_when_lower(tmp_path):
    values = {3: 0.5, 6: 0.2, 9: 0.7, 12: 0.6}
    _, progress, step = quiet(
        run_of(tmp_path, monitor="rating/rmse"), scored(values, "rating", "rmse")
    )
    assert (step, progress.best) == (6, 0.2)


def test_without_a_monitor_the_last_state_is_kept(whole):
    (state, progress, step), _ = whole
    assert (step, int(state.step), progress.best_step) == (TOTAL, TOTAL, -1)


def test_training_stops_early_when_nothing_gets_better(tmp_path):
    values = {3: 0.9, 6: 0.8, 9: 0.7, 12: 0.95}
    options = {"monitor": "click/auc", "patience": 2}
    _, progress, step = quiet(run_of(tmp_path, **options), scored(values))
    assert (step, progress.stopped) == (3, True)
    assert [h["step"] for h in progress.history] == [3, 6, 9]
    _, again, step = quiet(run_of(tmp_path, **options), scored(values))
    assert vars(again) == vars(progress), "a stopped run stays stopped"


def test_a_non_finite_update_stops_naming_step_and_task_and_saves_the_batch(tmp_path):
    stream = Stream(broken=(4,))
    with pytest.raises(UserError, match=r"step 4: the loss of rating is not finite") as error:
        quiet(run_of(tmp_path, stream))
    path = tmp_path / "non_finite_step_4.npz"
    assert str(path) in str(error.value)
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["x"], stream.batch(4)["x"])
        assert "items__id" in saved
    assert {"step": 4, "kind": "non_finite", "skipped": 1} in lines(tmp_path)
    assert max(steps_on_disk(tmp_path)) <= 4, "nothing that came after it was saved"


def test_the_policy_lets_some_non_finite_updates_pass(tmp_path):
    _, progress, step = quiet(run_of(tmp_path / "a", Stream(broken=(4, 7)), non_finite=2))
    assert (step, progress.skipped) == (TOTAL, 2)
    with pytest.raises(UserError, match="step 7"):
        quiet(run_of(tmp_path / "b", Stream(broken=(4, 7)), non_finite=1))


def test_the_count_of_skipped_updates_outlives_a_restart(tmp_path):
    stream = Stream(broken=(1, 7))
    with pytest.raises(Preempted):
        quiet(run_of(tmp_path, stream, non_finite=1), preemption=StopsAt(5))
    with pytest.raises(UserError, match="step 7"):
        quiet(run_of(tmp_path, stream, non_finite=1))


def test_one_fetch_a_step_and_one_compilation_a_shape(tmp_path, monkeypatch):
    traced = []

    def counted(state, batch):
        traced.append(batch["items/id"].shape)
        return one_step(state, batch)

    before = fetch.COUNT["fetches"]
    quiet(replace(run_of(tmp_path, Stream(wide=(2, 3, 8)), eval_every=-1), step=counted))
    assert fetch.COUNT["fetches"] - before == TOTAL
    assert sorted(traced) == [(1, 1, 3), (1, 1, 6)]


def test_another_configuration_or_other_data_in_the_same_folder_is_refused(whole):
    _, workdir = whole
    config = {"train": {"steps": TOTAL}}
    for meta, message in (
        ({"config": {"train": {"steps": 99}}, "data": "d"}, r"train\.steps was 12, is 99"),
        ({"config": config, "data": "other"}, "another data"),
        ({"config": {**config, "new": 1}, "data": "d"}, "new was None, is 1"),
    ):
        with pytest.raises(UserError, match=message):
            quiet(run_of(workdir, meta=meta))


def test_an_unknown_monitor_is_refused_before_anything_is_done(tmp_path):
    metrics = {"click": {"all": {"auc": {"value": 0.5}}}}
    assert monitored("click/auc", metrics) == 0.5
    assert monitored("", metrics) is None
    for name, near in (("click/acu", "click/auc"), ("clik/log_loss", "click/log_loss")):
        with pytest.raises(UserError, match=f"Did you mean '{near}'"):
            quiet(run_of(tmp_path, monitor=name))
    check_monitor("next/ndcg@10", SimpleNamespace(tasks=(TaskSpec("next", "retrieval", "x"),)))
    assert not (tmp_path / "checkpoints").exists()


def test_a_monitor_without_a_value_is_never_the_best(tmp_path):
    values = {3: None, 6: 0.2, 9: None, 12: None}
    options = {"monitor": "click/auc", "patience": 2}
    _, progress, step = quiet(run_of(tmp_path, **options), scored(values))
    assert (step, progress.best, progress.stopped) == (6, 0.2, True)


def test_evaluation_at_the_end_of_epochs_at_steps_or_never(tmp_path):
    def at(**options):
        run = run_of(tmp_path, **options)
        return [s for s in range(TOTAL + 1) if run.evaluates_at(s)]

    assert at(eval_every=0) == [4, 8, 12]
    assert at(eval_every=5) == [5, 10, 12]
    assert at(eval_every=-1) == []
    assert at(eval_every=5, eval_part="") == []


def damage(workdir: Path, step: int) -> None:
    """Turn over one bit of a step's largest file."""
    files = [p for p in (workdir / "checkpoints" / str(step) / "state").rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def told_of(workdir: Path) -> list[tuple[int, int]]:
    """(resumed from, damaged step) of the journal."""
    return [(x["step"], x["checkpoint"]) for x in lines(workdir) if x["kind"] == "damaged"]


def test_a_damaged_step_is_told_the_one_before_taken_and_the_end_the_same(whole, tmp_path):
    (state, progress, _), folder = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    assert steps_on_disk(workdir) == [9, 12]
    damage(workdir, 12)
    again = quiet(run_of(workdir))
    assert bits(again[0]) == bits(state)
    assert vars(again[1]) == vars(progress)
    assert told_of(workdir) == [(9, 12)]
    assert {"step": 9, "kind": "resume"} in lines(workdir)
    assert steps_on_disk(workdir) == [9, 12], "written anew"


@pytest.mark.parametrize("when", ["before a restart", "while it trains"])
def test_where_the_best_step_is_damaged_the_best_of_the_others_is_used(tmp_path, when):
    values = {3: 0.5, 6: 0.9, 9: 0.7, 12: 0.6}

    def evaluate(state):
        if when == "while it trains" and int(state.step) == 12:
            damage(tmp_path, 6)
        return scored(values)(state)

    found = quiet(run_of(tmp_path, monitor="click/auc"), evaluate)
    if when == "before a restart":
        assert found[2] == 6
        damage(tmp_path, 6)
        found = quiet(run_of(tmp_path, monitor="click/auc"), evaluate)
    state, progress, step = found
    assert (step, int(state.step), progress.best) == (9, 9, 0.7)
    assert told_of(tmp_path) == [(12, 6)]


def test_the_best_of_the_steps_that_are_left():
    def left(steps, monitor="click/auc"):
        history = [{"step": s, "monitor": v} for s, v in ((3, 0.5), (6, 0.9), (9, None), (12, 0.5))]
        progress = Progress(history, best_step=6, best=0.9)
        progress.keep_to(steps, monitor)
        return progress.best_step, progress.best

    assert left([6, 9]) == (6, 0.9)
    assert left([3, 9, 12]) == (12, 0.5), "of equals the later"
    assert left([9]) == (-1, None)
    assert left([3, 12], "rating/rmse") == (12, 0.5)


def test_a_second_training_in_the_folder_is_refused_and_does_nothing(tmp_path):
    run = run_of(tmp_path)
    with locked(tmp_path), pytest.raises(UserError, match="is training there"):
        quiet(run)
    assert not (tmp_path / "checkpoints").exists()
    assert quiet(run)[2] == TOTAL


def test_a_clock_that_jumps_by_years_changes_nothing(whole, tmp_path, monkeypatch):
    rng, now = random.Random(0), time.time
    jumps = []

    def jump():
        jumps.append(rng.uniform(-10, 5) * 365 * 86400)
        return now() + jumps[-1]

    monkeypatch.setattr(time, "time", jump)
    monkeypatch.setattr(time, "time_ns", lambda: int(jump() * 1e9))
    with pytest.raises(Preempted):
        quiet(run_of(tmp_path), preemption=StopsAt(5))
    again = quiet(run_of(tmp_path))
    print(f"clock: {len(jumps)} jumps of up to ten years")
    assert len(jumps) > 100
    assert bits(again[0]) == bits(whole[0][0])
    assert vars(again[1]) == vars(whole[0][1])
    assert steps_on_disk(tmp_path) == [9, 12]


def test_a_step_is_there_until_it_is_written_anew(tmp_path, monkeypatch):
    """A signal in the evaluation of step 3 saves it; written anew, the disk is full."""

    def interrupted(state):
        raise Preempted

    with pytest.raises(Preempted):
        quiet(run_of(tmp_path), interrupted)
    assert steps_on_disk(tmp_path) == [3]

    def no_room(folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mtl_jax.train.checksums.write", no_room)
        with pytest.raises(UserError, match=r"No space left on device\); step 3 is whole"):
            quiet(run_of(tmp_path))
    assert steps_on_disk(tmp_path) == [3]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3"], "room is given"
    assert quiet(run_of(tmp_path))[2] == TOTAL
