"""The loop of lanes around a step of one line: resume, stops of single lanes, best steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import (
    TOTAL,
    StopsAt,
    Stream,
    bits,
    lines,
    one_step,
    quiet,
    run_of,
    scored,
    steps_on_disk,
)

from mtl_jax.core.errors import UserError
from mtl_jax.train import lanes as program
from mtl_jax.train.lanes_loop import Lane, Together, train
from mtl_jax.train.lock import locked
from mtl_jax.train.mesh import make_mesh
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.state import TrainState

pytestmark = pytest.mark.usefixtures("quick_compilation")
N = 3
BREAKS = 2  # the lane that a wild batch breaks


def first(key):
    return TrainState(jnp.zeros((), jnp.int32), {"w": jnp.arange(3.0)}, {}, {}, {}, (), key)


def step_of(rate, weights, go):
    """The step of test_loop with a rate; a batch that holds 99 is too much for weights[0] = 0."""

    def step(state, batch):
        wild = jnp.any(batch["x"] == 99.0) & (weights[0] == 0)
        x = jnp.where(wild, jnp.nan, jnp.where(batch["x"] == 99.0, 0.0, batch["x"]))
        after, metrics = one_step(state, {"x": x})
        finite = metrics["finite"] & go
        w = jnp.where(finite, rate * after.params["w"], state.params["w"])
        return replace(after, params={"w": w}), {**metrics, "finite": finite}

    return step


class Wild(Stream):
    """Some batches hold 99."""

    def batch(self, step):
        found = replace(Stream(), wide=self.wide).batch(step)
        if step in self.broken:
            found["x"][0, 0, 3] = 99.0
        return found


def rate_of(n):
    return 1.0 - 0.1 * n


def lane_of(workdir, n, stream=None, **options):
    key = np.asarray(jax.random.PRNGKey(n))
    run = run_of(workdir / f"lane_{n}", stream, **options)
    run = replace(run, create=jax.jit(lambda: first(jnp.asarray(key))))
    return Lane(f"lane_{n}", run, key, rate_of(n), (float(n != BREAKS), 1.0))


def together_of(workdir, stream=None, **options):
    lanes = tuple(lane_of(workdir, n, stream, **options) for n in range(N))
    return Together(lanes, first, step_of, lanes[0].run.mesh, workdir)


def run_all(together, evaluate=None, preemption=None):
    return train(together, evaluate or scored(), preemption or Preemption(), quiet=True)


def alone(workdir, n, stream=None, evaluate=None, **options):
    """A run of its own with the numbers of lane n."""
    lane = lane_of(workdir, n, stream, **options)
    step = lambda s, b: step_of(jnp.float32(lane.rate), jnp.asarray(lane.weights), True)(s, b)  # noqa: E731
    return quiet(replace(lane.run, step=step), evaluate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return run_all(together_of(workdir)), workdir


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), a, b)


def told(workdir):
    kept = [x for x in lines(workdir) if x["kind"] in ("train", "eval")]
    clocks = ("examples_per_second", "input_wait")
    return [{k: v for k, v in x.items() if k not in clocks} for x in kept]


def test_a_lane_leaves_what_its_own_run_leaves(whole, tmp_path):
    outcomes, workdir = whole
    for n, outcome in enumerate(outcomes):
        state, progress, step = alone(tmp_path, n)
        close(state, outcome.state)
        assert step == outcome.step == TOTAL
        assert steps_on_disk(tmp_path / f"lane_{n}") == steps_on_disk(workdir / f"lane_{n}")
        pairs = zip(told(tmp_path / f"lane_{n}"), told(workdir / f"lane_{n}"), strict=True)
        for own, ours in pairs:
            assert own.keys() == ours.keys()
            np.testing.assert_allclose(list(own.values())[2:], list(ours.values())[2:], atol=1e-5)
        close(progress.history, outcome.progress.history)
    assert len({bits(o.state) for o in outcomes}) == N


@pytest.mark.parametrize("steps", [1, 6, 11])
def test_stopped_lanes_that_resume_are_bit_equal_to_unbroken_ones(whole, tmp_path, steps):
    with pytest.raises(Preempted):
        run_all(together_of(tmp_path), preemption=StopsAt(steps))
    again = run_all(together_of(tmp_path))
    for n, (a, b) in enumerate(zip(again, whole[0], strict=True)):
        assert bits(a.state) == bits(b.state)
        assert vars(a.progress) == vars(b.progress)
        assert told(tmp_path / f"lane_{n}") == told(whole[1] / f"lane_{n}"), "each line once"
    assert told(tmp_path) == told(whole[1])
    assert {"step": steps, "kind": "resume"} in lines(tmp_path)


def test_lanes_that_were_cut_off_between_saves_go_on_from_the_last_common_step(whole, tmp_path):
    """Lane 0 has saved step 9, the others only 6: as after a kill."""
    seen = []

    def evaluate(state):
        seen.append(int(state.step))
        if seen.count(9) == 2:
            raise RuntimeError
        return scored()(state)

    with pytest.raises(RuntimeError):
        run_all(together_of(tmp_path), evaluate)
    assert [steps_on_disk(tmp_path / f"lane_{n}") for n in range(N)] == [[6, 9], [3, 6], [3, 6]]
    again = run_all(together_of(tmp_path))
    assert [bits(o.state) for o in again] == [bits(o.state) for o in whole[0]]
    assert [vars(o.progress) for o in again] == [vars(o.progress) for o in whole[0]]


@pytest.mark.parametrize("restart", [False, True])
def test_a_lane_that_is_not_finite_is_stopped_and_named_and_the_others_go_on(
    whole, tmp_path, restart, caplog
):
    stream = Wild(broken=(4,))
    if restart:
        with pytest.raises(Preempted):
            run_all(together_of(tmp_path, stream), preemption=StopsAt(8))
    outcomes = run_all(together_of(tmp_path, stream))
    assert "lane_2 is stopped, the others go on: step 4: the loss of rating" in caplog.text
    for n in (0, 1):
        close(alone(tmp_path / "own", n, stream)[0], outcomes[n].state)
        assert (outcomes[n].step, outcomes[n].progress.skipped) == (TOTAL, 0)
    with pytest.raises(UserError, match="step 4"):
        alone(tmp_path / "own", BREAKS, stream)
    broken = outcomes[BREAKS]
    assert (broken.progress.skipped, broken.progress.stopped) == (1, True)
    four, _, _ = alone(tmp_path / "four", BREAKS, steps=4, eval_every=-1)
    close(four.params, broken.state.params)
    assert broken.step == max(steps_on_disk(tmp_path / "lane_2")) < 8
    (line,) = (x for x in lines(tmp_path) if x["kind"] == "stopped")
    assert (line["lane"], line["step"]) == ("lane_2", 4)


def test_the_count_of_skipped_updates_outlives_a_restart(tmp_path):
    stream, options = Wild(broken=(1, 7)), {"non_finite": 1, "eval_every": -1}
    with pytest.raises(Preempted):
        run_all(together_of(tmp_path, stream, **options), preemption=StopsAt(5))
    broken = run_all(together_of(tmp_path, stream, **options))[BREAKS]
    assert (broken.progress.skipped, broken.progress.stopped) == (2, True)
    seven, _, _ = alone(tmp_path / "seven", BREAKS, stream, **{**options, "steps": 7})
    close(seven.params, broken.state.params)


def test_a_lane_that_nothing_makes_better_stays_where_it_stopped(tmp_path):
    def evaluate(state):
        known = int(np.asarray(state.key)[1]) != 1
        return scored({k: k if known else None for k in (3, 6, 9, 12)})(state)

    options = {"monitor": "click/auc", "patience": 1}
    outcomes = run_all(together_of(tmp_path, **options), evaluate)
    assert [o.step for o in outcomes] == [12, 3, 12]
    state, _, _ = alone(tmp_path / "own", 1, evaluate=evaluate, **options)
    close(state, outcomes[1].state)


def test_each_lane_has_its_own_best_step_and_stops_by_its_own_patience(tmp_path):
    def evaluate(state):
        """Lane 1 (by its rate) gets worse from step 3 on, the others better."""
        falls = int(np.asarray(state.key)[1]) == 1
        return scored({k: -k if falls else k for k in (3, 6, 9, 12)})(state)

    options = {"monitor": "click/auc", "patience": 1}
    for _ in range(2):
        outcomes = run_all(together_of(tmp_path, **options), evaluate)
        assert [o.step for o in outcomes] == [12, 3, 12]
        assert [o.progress.stopped for o in outcomes] == [False, True, False]
    for n, outcome in enumerate(outcomes):
        state, progress, _ = alone(tmp_path / "own", n, evaluate=evaluate, **options)
        close(state, outcome.state)
        assert vars(progress) == vars(outcome.progress)
    assert steps_on_disk(tmp_path / "lane_1") == [3, 6]


def test_another_lane_in_the_folder_is_refused(whole):
    together = together_of(whole[1], meta={"config": {"train": {"steps": 99}}, "data": "d"})
    with pytest.raises(UserError, match=r"lane_0 holds a run with another config"):
        run_all(together)
    with locked(whole[1] / "lane_1"), pytest.raises(UserError, match="is training there"):
        run_all(together_of(whole[1]))


def test_large_states_are_not_copied_by_a_loop():
    state = first(jax.random.PRNGKey(0))
    mesh = make_mesh(1)
    for rows, size in ((1000, 8), (300_000, mesh.size)):
        table = jax.ShapeDtypeStruct((rows, 16), jnp.float32)
        assert program.group_size(8, mesh, replace(state, tables={"item": table})) == size
