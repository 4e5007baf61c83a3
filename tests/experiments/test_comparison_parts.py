"""The parts of a comparison that need no training: flags, widths, telemetry, drawings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.comparison import svg, telemetry
from experiments.comparison.arms import combinations, slug, split_commas, twin
from experiments.comparison.matched import closest, scaled
from experiments.fitting import SameRows, main_tasks, plain
from mtl_jax.core.errors import UserError
from mtl_jax.data.pipeline import TrainStream, rows_of
from mtl_jax.train.config import BalanceConfig
from mtl_jax.train.mesh import make_mesh
from tiny_config import get_config
from worlds import assembler_of, world_data

CONFIG = get_config()


def one(text, config=CONFIG):
    return combinations(config, ["shared_bottom"], [text])[0].config.balance


def test_every_trunk_meets_every_balancer_once():
    found = combinations(CONFIG, ["shared_bottom", "mmoe", "mmoe"], ["ew", "uw", "ew"])
    pairs = [(a.config.model.trunk, a.config.balance.name) for a in found]
    assert pairs == [
        ("shared_bottom", "ew"), ("shared_bottom", "uw"), ("mmoe", "ew"), ("mmoe", "uw"),
    ]  # fmt: skip
    assert len({a.name for a in found}) == 4
    assert [(a.trunk, a.balance) for a in found] == pairs


def test_fields_and_options_of_a_balancer():
    found = one("cagrad:c=0.4,level=shared,gram_every=5,heads=weighted")
    assert found.options == (("c", 0.4),)
    assert (found.name, found.level, found.gram_every, found.heads) == (
        "cagrad", "shared", 5, "weighted",
    )  # fmt: skip
    assert one("uw").options == ()


def test_the_configurations_own_options_stay_with_their_balancer():
    own = replace(CONFIG, balance=BalanceConfig("uw", (("start", 0.5),), level="shared"))
    assert one("uw", own).options == (("start", 0.5),)
    assert one("ew", own).options == ()
    assert one("ew", own).level == "shared"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("naash", "--balance=naash: unknown balancer 'naash'. Did you mean 'nash'?"),
        ("uw:strat=1.0", "--balance=uw:strat=1.0: .*Did you mean 'start'"),
        ("uw:level=share", "--balance=uw:level=share: .*Did you mean 'shared'"),
        ("uw:gram_every=often", "--balance=uw:gram_every=often: .*int"),
        ("uw:start", "write it as name:field=value"),
    ],
)
def test_a_wrong_balancer_is_refused_by_its_flag(text, told):
    with pytest.raises(UserError, match=told):
        one(text)


def test_a_wrong_trunk_is_refused_by_its_flag():
    with pytest.raises(UserError, match=r"--trunk.*'shared_botom'. Did you mean 'shared_bottom'"):
        combinations(CONFIG, ["shared_botom"], ["ew"])


def test_commas_inside_brackets_do_not_cut():
    assert split_commas("a=1,b=(1,2),c=[3,4]") == ["a=1", "b=(1,2)", "c=[3,4]"]
    assert slug("cagrad:c=0.4,level=shared") == "cagrad_c=0.4_level=shared"


def test_a_twin_is_the_same_model_for_one_task():
    task = replace(CONFIG.tasks[1], weight=0.3)
    found = twin(CONFIG, task)
    assert found.config.tasks == (replace(task, weight=1.0),)
    assert found.config.model == CONFIG.model
    assert (found.config.train, found.config.optim) == (CONFIG.train, CONFIG.optim)
    narrow = twin(CONFIG, task, (3,))
    assert narrow.config.model == replace(CONFIG.model, trunk_widths=(3,))
    assert narrow.name != found.name


def test_auxiliary_tasks_are_not_compared_and_nothing_is_looked_at(tmp_path):
    assert [t.name for t in main_tasks(CONFIG)] == ["click", "rating", "next_item"]
    found = plain(CONFIG, tmp_path)
    assert (found.train.eval_part, found.train.monitor, found.train.patience) == ("", "", 0)
    assert found.data.prepared == str(tmp_path / "prepared")


def test_widths_are_the_closest_there_are():
    def parameters(widths):
        return 10 * widths[0] + widths[0] * widths[1]

    for wanted in (50, 333, 1000, 1234, 9000):
        found = closest((128, 64), wanted, parameters)
        every = {scaled((128, 64), f) for f in np.linspace(0, 4, 20001)}
        best = min(abs(parameters(w) - wanted) for w in every)
        assert abs(parameters(found) - wanted) == best, (wanted, found)
    assert closest((8,), 1, lambda w: 10 * w[0]) == (1,)
    assert closest((8,), 10**9, lambda w: 10 * w[0]) == (512,), "there is an end to it"


def test_a_twins_batch_holds_the_rows_of_the_models_batch(shared_folder):
    data = world_data(shared_folder)
    both, alone = assembler_of(data, CONFIG.tasks[:2]), assembler_of(data, CONFIG.tasks[1:2])
    model = TrainStream(both, rows_of(both, "train"), 3, 1)
    own = TrainStream(alone, rows_of(alone, "train"), 3, 1)
    assert len(own.index) < len(model.index), "the label is missing in some rows"

    config = replace(CONFIG, train=replace(CONFIG.train, seed=3))
    job = SameRows(
        config, shared_folder, data, make_mesh(1), alone, None, None, None, rows=model.index
    )
    for step in (0, 1, model.steps_per_epoch):
        np.testing.assert_array_equal(job.stream.rows(step), model.rows(step))
    ours, theirs = job.stream.batch(2), model.batch(2)
    np.testing.assert_array_equal(ours["label/rating"], theirs["label/rating"])
    np.testing.assert_array_equal(ours["user"], theirs["user"])


def lines(*found):
    return [{"step": i + 1, **line} for i, line in enumerate(found)]


def train(speed, **more):
    return {"kind": "train", "examples_per_second": speed, **more}


def test_a_steps_time_leaves_compilation_out():
    run = lines(
        train(1.0), train(100.0), {"kind": "eval"}, train(50.0), {"kind": "resume"}, train(0.5),
        train(200.0),
    )  # fmt: skip
    assert telemetry.seconds_per_step(run, 100) == 1.0
    assert telemetry.seconds_per_step(run[:1], 100) is None
    assert telemetry.seconds_per_step([], 100) is None


def test_telemetry_is_the_mean_over_seeds_of_what_was_measured():
    one = lines(
        train(1.0, **{"weight/a": 1.0, "balance/cosine/a|b": -0.5, "balance/conflict": 1.0}),
        train(1.0, **{"weight/a": 3.0, "balance/cosine/a|b": None, "balance/conflict": 0.0}),
    )
    two = lines(train(1.0, **{"weight/a": 2.0, "balance/cosine/a|b": 0.1}))
    found = telemetry.summary([one, two])
    assert found["steps"] == [1, 2]
    assert found["weights"] == {"a": [1.5, 3.0]}
    assert found["cosine"] == {"a|b": pytest.approx(-0.2)}
    assert found["conflict"] == [1.0, 0.0]
    assert found["mean_conflict"] == 0.5
    assert telemetry.summary([[]])["weights"] == {}


def test_long_series_are_thinned_between_their_ends():
    run = lines(*[train(1.0, **{"weight/a": float(i)}) for i in range(1000)])
    found = telemetry.summary([run])
    assert len(found["steps"]) == telemetry.POINTS
    assert (found["steps"][0], found["steps"][-1]) == (1, 1000)
    assert found["weights"]["a"] == [float(step - 1) for step in found["steps"]]
    json.dumps(found)


def test_ticks_are_round_and_within():
    assert svg.round_numbers(0.0, 1.0, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert svg.round_numbers(0.7012, 0.7098, 4) == pytest.approx([0.702, 0.704, 0.706, 0.708])
    for low, high in ((-3.0, 17.0), (1e-7, 3e-7), (-1e6, 1e6)):
        found = svg.round_numbers(low, high, 5)
        assert 3 <= len(found) <= 9
        assert low <= found[0] < found[-1] <= high


def test_a_scale_may_fall_and_room_is_never_empty():
    scale = svg.Scale(1.0, 3.0, 100.0, 0.0)
    assert [scale(v) for v in (1.0, 2.0, 3.0)] == [100.0, 50.0, 0.0]
    low, high = svg.room([2.0, 2.0])
    assert low < 2.0 < high
    low, high = svg.room([0.0])
    assert low < 0.0 < high


def test_a_line_breaks_where_a_value_is_missing():
    x = y = svg.Scale(0.0, 4.0, 0.0, 4.0)
    drawn = svg.line(x, y, [0, 1, 2, 3, 4], [1.0, 2.0, None, 3.0, None], 0, "a<b")
    assert drawn.count("<polyline") == 1
    assert drawn.count("<circle") == 1
    assert "a&lt;b" in drawn
