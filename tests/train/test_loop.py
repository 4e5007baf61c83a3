"""The loop around a step of one line: resume, best step, early stop, signals, broken updates."""

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import balance
from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.train import fetch
from mtl_jax.train.config import OptimConfig, TrainConfig
from mtl_jax.train.loop import Run, train
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
        SimpleNamespace(tasks=TASKS), stream or Stream(), balance.get("fixed", weights=(1.0, 1.0)),
        optax.identity(), OptimConfig(), config, make_mesh(1), one_step, creator(), config.steps,
        workdir, meta or {"config": {"train": {"steps": TOTAL}}, "data": "d"},
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

    def check(self) -> None:
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
        return [{k: v for k, v in x.items() if k != "examples_per_second"} for x in kept]

    assert told(tmp_path) == told(folder), "no line is missing and none is told twice"
    assert {"step": steps, "kind": "resume"} in lines(tmp_path)


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
