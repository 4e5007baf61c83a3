"""The scripts as processes: what they print, write and refuse."""

import json
import shutil

import numpy as np
import pytest

from mtl_jax.train import checksums
from runs import CONFIG
from worlds import world_data


def error_of(process):
    """The message of a script that refused: one line, status 2, no traceback."""
    assert process.status == 2, process.output()[-3000:]
    lines = process.output().splitlines()
    assert "Traceback" not in process.output()
    told = [line for line in lines if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0] == lines[-1]
    return told[0]


@pytest.fixture
def script(zygote, tiny):
    """script("recommend", "--user=1", ...) on the finished tiny run."""

    def call(name, *argv, workdir=None):
        return zygote.run(f"experiments.{name}", f"--workdir={workdir or tiny.workdir}", *argv)

    return call


@pytest.fixture
def refusal(zygote, tmp_path):
    """The message with which `train` refuses overrides of the tiny configuration."""

    def call(*overrides, workdir=None, config=CONFIG, data=None):
        sets = [f"--set={o}" for o in overrides]
        sets += [f"--set={data}"] if data else []
        flags = [f"--config={config}", f"--workdir={workdir or tmp_path / 'run'}", *sets]
        return error_of(zygote.run("experiments.train", *flags))

    return call


def test_training_writes_what_it_says(tiny):
    metrics = tiny.metrics
    assert metrics["step"] in (6, 12)
    assert metrics["skipped"] == 0
    entry = metrics["valid"]["click"]["all"]["auc"]
    assert set(entry) >= {"value", "low", "high", "rows"}
    assert entry["low"] <= entry["value"] <= entry["high"]
    assert set(metrics["valid"]) == {"click", "rating", "next_item"}
    assert {"all", "warm_item", "warm_user"} <= set(metrics["valid"]["next_item"])
    assert "ndcg@10" in metrics["valid"]["next_item"]["all"]
    assert list((tiny.workdir / "tensorboard").iterdir())
    kept = json.loads((tiny.workdir / "config.json").read_text())
    assert kept["train"]["steps"] == 12
    best = max(h["click/auc"] for h in evaluations(tiny))
    assert np.isclose(entry["value"], best), "the best step is what is used"


def evaluations(tiny):
    lines = (tiny.workdir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    steps = [line["step"] for line in found if line["kind"] == "train"]
    assert steps == list(range(1, 13)), "each step once"
    return [line for line in found if line["kind"] == "eval"]


def test_prepare_twice_is_the_same_and_says_where(zygote, tiny, tmp_path):
    flags = [f"--config={CONFIG}", f"--workdir={tmp_path}", f"--set={tiny.data}"]
    process = zygote.run("experiments.prepare", *flags)
    assert process.status == 0, process.output()[-3000:]
    assert "train/valid/test rows [" in process.output()
    assert f"prepared data: {tiny.folder / 'prepared'}" in process.output()


def test_evaluate_adds_a_part_and_keeps_the_others(script, tiny, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(tiny.workdir, workdir)
    process = script("evaluate", "--split=test", "--replicates=20", workdir=workdir)
    assert process.status == 0, process.output()[-3000:]
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert {k: v for k, v in metrics.items() if k != "test"} == tiny.metrics
    prepared = json.loads((tiny.folder / "prepared" / "manifest.json").read_text())
    assert metrics["data_split"] == prepared["split"]["sha256"]
    assert metrics["test"]["click"]["all"]["auc"]["rows"] > 0


def test_recommend_prints_exactly_one_json_object(script, shared_folder):
    data = world_data(shared_folder)
    user = data.vocabulary("users").values[int(np.asarray(data.events["user"])[-1])]
    process = script("recommend", f"--user={user}", "--k=5")
    assert process.status == 0, process.output()[-3000:]
    last = process.output().splitlines()[-1]
    found = json.loads(last)
    assert list(found) == ["user_id", "recommendations"]
    assert found["user_id"] == user
    assert len(found["recommendations"]) == 5
    assert all(list(item) == ["item_id", "score"] for item in found["recommendations"])
    scores = [item["score"] for item in found["recommendations"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--user=new", "--profile=gendr=F"], "there is no such column. Did you mean 'gender'?"),
        (["--user=new", "--profile=gender"], "--profile=gender: write it as column=value"),
        (["--k=0", "--user=new"], "--k=0: at least 1 is needed"),
        ([], "--user is needed"),
        (["user=7"], "'user=7' is no flag"),
    ],
)
def test_recommend_refuses_what_it_does_not_know(script, flags, message):
    assert message in error_of(script("recommend", *flags))


@pytest.mark.parametrize("name", ["evaluate", "recommend"])
def test_a_folder_without_a_checkpoint_is_refused(script, tmp_path, name):
    flags = ["--user=1"] if name == "recommend" else []
    assert "no checkpoints there; run train first" in error_of(
        script(name, *flags, workdir=tmp_path)
    )
    (tmp_path / "checkpoints").mkdir()
    message = error_of(script(name, *flags, workdir=tmp_path))
    assert "no whole checkpoint there; run train first" in message


def test_a_step_that_is_not_there_is_refused(script):
    assert "--step=77: there are steps [" in error_of(script("evaluate", "--step=77"))


def test_other_prepared_data_than_that_of_training_is_refused(script, tiny, tmp_path):
    """As if it had been prepared anew, with other ids, since the run was trained."""
    workdir = tmp_path / "copy"
    shutil.copytree(tiny.workdir, workdir)
    digest = world_data(tiny.folder).digest
    told = [p for p in workdir.glob("checkpoints/*/meta/*") if digest in p.read_text()]
    assert told
    for path in told:
        path.write_text(path.read_text().replace(digest, "0" * 64))
        checksums.write(path.parents[1])
    assert f"is not the data that {workdir} was trained on" in error_of(
        script("evaluate", workdir=workdir)
    )


def test_typos_are_refused_with_the_nearest_name(refusal):
    assert "no field 'stepz'. Did you mean 'steps'?" in refusal("train.stepz=1")
    assert "'many' is not of type int" in refusal("train.steps=many")
    assert "there is no such file" in refusal(config="nowhere.py")


def test_a_folder_below_a_file_is_refused(refusal, tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal(workdir=tmp_path / "file" / "run")
    assert f"--workdir={tmp_path / 'file' / 'run'}: cannot be written" in message


def test_another_configuration_in_the_same_folder_is_refused_naming_the_field(refusal, tiny):
    message = refusal("train.seed=5", workdir=tiny.workdir, data=tiny.data)
    assert "another config (train.seed was 0, is 5)" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.click.label=clik", "no label 'clik'. Did you mean 'click'?"),
        ("tasks.click.label=rating", "needs a 0/1 label"),
        ("batch.size=63", "batch.size=63 is not a multiple"),
        ("batch.size=6400000", "exceeds the"),
        ("optim.rates=(('nothing', 2.0),)", "the pattern 'nothing' matches no parameter"),
        ("balance.name=fixd", "unknown balancer 'fixd'. Did you mean 'fixed'?"),
        ("balance.points=(('clik', ((0, 1),)),)", "there is no task 'clik'"),
        ("train.mesh=3", "there are 1 devices"),
        ("data.source=worl", "data.source='worl' is not one of"),
        ("train.monitor=click/acu", "Did you mean 'click/auc'?"),
        ("train.eval_part=vald", "'vald' is not one of 'valid', 'test'"),
    ],
)
def test_what_cannot_be_trained_is_refused(refusal, tiny, override, message):
    more = {"batch.size=63": ["batch.shards=2"], "balance.points=(('clik', ((0, 1),)),)": [
        "balance.name=scheduled"]}.get(override, [])  # fmt: skip
    assert message in refusal(override, *more, data=tiny.data)
