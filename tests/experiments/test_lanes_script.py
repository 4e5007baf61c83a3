"""experiments.lanes as a process: what it leaves, against experiments.train of one lane."""

import json

import jax
import numpy as np
import pytest

from experiments.lanes import Numbers, combinations, table_of
from mtl_jax.config import from_dict, load
from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import path_of
from mtl_jax.restore import open_trained
from runs import CONFIG

CHANGES = (
    "train.steps=20", "train.eval_every=-1", "train.checkpoint_every=8", "train.log_every=1",
    "train.monitor=",
)  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The tiny run with two tasks only, as a file: less to compile."""
    path = tmp_path_factory.mktemp("config") / "two.py"
    path.write_text(
        "import dataclasses, runpy\n"
        f"whole = runpy.run_path({str(CONFIG)!r})['get_config']()\n"
        "def get_config():\n"
        "    return dataclasses.replace(whole, tasks=whole.tasks[:2])\n"
    )
    return path


def run_of(zygote, module, config, workdir, *more):
    sets = [f"--set={c}" for c in CHANGES]
    process = zygote.run(module, f"--config={config}", f"--workdir={workdir}", *sets, *more)
    assert process.status == 0, process.output()[-5000:]
    return process.output()


@pytest.mark.parametrize("balance", ["ew", pytest.param("nash", marks=pytest.mark.soak)])
def test_a_lane_is_the_run_that_its_config_describes(zygote, tiny, config, tmp_path, balance):
    told = run_of(
        zygote, "experiments.lanes", config, tmp_path / "lanes", f"--set={tiny.data}",
        f"--set=balance.name={balance}",
        "--seeds=2", "--rates=3e-3", "--task_weights=rating=0.5",
    )  # fmt: skip
    assert "lane_1" in told
    assert "mean ± sd" in told
    lane = tmp_path / "lanes" / "lane_1"
    saved = json.loads((lane / "config.json").read_text())
    assert saved["train"]["seed"] == 1
    assert saved["train"]["order_seed"] == 0
    assert saved["optim"]["learning_rate"] == 3e-3
    assert [t["weight"] for t in saved["tasks"]] == [1.0, 0.5]
    alone = tmp_path / "own.py"
    alone.write_text(
        "import json\nfrom mtl_jax.config import from_dict\n"
        f"def get_config():\n    return from_dict(json.load(open({str(lane / 'config.json')!r})))\n"
    )
    run_of(zygote, "experiments.train", alone, tmp_path / "own", f"--set=balance.name={balance}")
    ours, own = open_trained(lane), open_trained(tmp_path / "own")
    assert ours.step == own.step == 20
    assert ours.job.config == own.job.config == from_dict(saved)
    pairs = zip(
        jax.tree_util.tree_flatten_with_path(own.state)[0], jax.tree.leaves(ours.state), strict=True
    )
    for (path, a), b in pairs:
        if path_of(path).endswith("key_value/bias"):  # a key's bias drops out of every softmax:
            a, b = a[8:], b[8:]  # its gradient is rounding alone, which Adam makes full steps of
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=path_of(path))
    assert [p.name for p in sorted((lane / "checkpoints").iterdir())] == ["16", "20"]
    losses = [curves(f) for f in (lane, tmp_path / "own")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-5)
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (lane, tmp_path / "own")]
    assert metrics[0].keys() == metrics[1].keys()
    auc = [m["valid"]["click"]["all"]["auc"]["value"] for m in metrics]
    assert np.isclose(*auc, atol=1e-4)


def curves(workdir):
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [[x["loss/click"], x["loss/rating"]] for x in found if x["kind"] == "train"]


def test_lanes_are_every_combination_and_seeds_change_fastest():
    config = load(str(CONFIG), ["train.seed=5"])
    found = combinations(config, 2, ["1e-3", "1e-4"], ["click=1|2"])
    assert len(found) == 8
    assert [n.seed for n in found] == [5, 6] * 4
    assert [n.rate for n in found] == [1e-3, 1e-3, 1e-4, 1e-4] * 2
    assert [n.weights[0] for n in found] == [1.0] * 4 + [2.0] * 4
    assert {n.weights[1:] for n in found} == {tuple(t.weight for t in config.tasks[1:])}
    assert combinations(config, 1, [], []) == [
        Numbers(5, config.optim.learning_rate, tuple(t.weight for t in config.tasks))
    ]


@pytest.mark.parametrize(
    ("rates", "weights", "message"),
    [
        (["0"], [], "--rates: '0' must be above 0"),
        (["fast"], [], "--rates: 'fast' is not of type float"),
        ([], ["clik=1"], "--task_weights=clik=1: .* Did you mean 'click'"),
        ([], ["click"], "write it as TASK=WEIGHT"),
        ([], ["click=1|-2"], "'-2' must be 0 or more"),
    ],
)
def test_what_is_no_number_or_no_task_is_refused(rates, weights, message):
    with pytest.raises(UserError, match=message):
        combinations(load(str(CONFIG)), 1, rates, weights)


def test_the_table_sums_up_lanes_that_differ_in_seed_alone():
    config = load(str(CONFIG))
    numbers = combinations(config, 2, ["1e-3", "1e-4"], [])

    def result(value):
        entry = {"value": value, "low": None, "high": None, "rows": 1}
        return {"step": 9, "skipped": 0, "valid": {"click": {"all": {"auc": entry}}}}

    broken = {"step": 3, "skipped": 1}
    table = table_of(config, numbers, [*map(result, (0.5, 0.7, 0.6)), broken], "valid")
    cells = {c.header: list(c.cells) for c in table.columns}
    summary = "mean ± sd"
    assert cells["lane"] == ["lane_0", "lane_1", summary, "lane_2", "lane_3", summary]
    assert cells["click auc"] == ["0.5000", "0.7000", "0.6000 ± 0.1414", "0.6000", "-", "-"]
    assert cells["step"][4] == "3, not finite"
