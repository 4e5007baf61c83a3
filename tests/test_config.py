"""Overrides, JSON, and what is refused with the nearest name."""

import dataclasses
import json

import pytest

from mtl_jax.config import Config, from_dict, load, to_dict
from mtl_jax.core.errors import UserError
from tiny_config import get_config

TINY = "tests/tiny_config.py"
CONFIGS = [
    "experiments/configs/quickstart.py",
    "experiments/configs/ml100k.py",
    "experiments/configs/ml1m.py",
]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize("path", CONFIGS)
def test_shipped_configs_load_and_go_through_json(path):
    config = load(path)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_overrides_are_read_as_the_fields_type():
    config = load(
        TINY,
        [
            "train.steps=100",
            "optim.learning_rate=1",
            "model.trunk_widths=(64, 32)",
            "data.folder=some where/1",
            "model.item_id=false",
            "tasks.click.weight=2",
            "tasks.rating.low=None",
            "rank.weights=(('click', 1), ('rating', 0.5))",
            "train.steps=7",
        ],
    )
    assert config.train.steps == 7, "the last one counts"
    assert config.optim.learning_rate == 1.0
    assert isinstance(config.optim.learning_rate, float)
    assert config.model.trunk_widths == (64, 32)
    assert config.data.folder == "some where/1"
    assert config.model.item_id is False
    assert [t.weight for t in config.tasks][:2] == [2.0, 1.0]
    assert config.tasks[1].low is None
    assert config.rank.weights == (("click", 1.0), ("rating", 0.5))
    assert dataclasses.replace(config.train, steps=12) == get_config().train


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("train.stepz=1", "TrainConfig has no field 'stepz'. Did you mean 'steps'?"),
        ("trian.steps=1", "Config has no field 'trian'. Did you mean 'train'?"),
        ("tasks.clik.weight=1", "no task 'clik'. Did you mean 'click'?"),
        ("tasks.click.wieght=1", "TaskSpec has no field 'wieght'. Did you mean 'weight'?"),
        ("train.steps=many", "'many' is not of type int"),
        ("train.steps=1.5", "1.5 is not of type int"),
        ("train.steps=True", "True is not of type int"),
        ("model.item_id=1", "1 is not of type bool"),
        ("optim.learning_rate=fast", "'fast' is not of type float"),
        ("optim.name=adamx", "'adamx' is not one of 'adamw', 'adam', 'sgd'. Did you mean 'adam"),
        ("model.trunk_widths=64", "64 is not a tuple; write it as (a, b)"),
        ("model.trunk_widths=(64, 'x')", "'x' is not of type int"),
        ("rank.weights=(('click',),)", "has 1 parts, 2 are needed"),
        ("train=3", "'train' is a group; name one of its fields: steps, epochs"),
        ("train.steps.x=3", "'steps' is a value and has no field 'x'"),
        ("train.steps", "write it as path=value"),
    ],
)
def test_typos_and_ill_typed_values_are_refused(flag, message):
    with pytest.raises(UserError) as error:
        load(TINY, [flag])
    assert str(error.value).startswith(f"--set={flag}: ")
    assert message in str(error.value)


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.py: there is no such file"):
        load(str(tmp_path / "nowhere.py"))
    path = tmp_path / "config.py"
    path.write_text("x = 1\n")
    with pytest.raises(UserError, match=r"defines no get_config\(\)"):
        load(str(path))
    path.write_text("def get_config():\n    return {}\n")
    with pytest.raises(UserError, match=r"must return a mtl_jax\.config\.Config"):
        load(str(path))


def test_json_of_another_version_is_refused():
    values = to_dict(get_config())
    for change, message in (
        ({"trian": {}}, "Config has no field 'trian'. Did you mean 'train'?"),
        ({"train": {"stepz": 1}}, "TrainConfig has no field 'stepz'"),
        ({"train": {"steps": "1"}}, "config.train.steps: '1' is not of type int"),
        ({"batch": 3}, "3 is no BatchConfig"),
        ({"tasks": [{"name": "a", "kind": "ternary", "label": "b"}]}, "'ternary' is not one of"),
    ):
        with pytest.raises(UserError) as error:
            from_dict({**values, **change})
        assert message in str(error.value)


def test_the_configuration_is_frozen():
    config = get_config()
    for part in (config, config.train, config.tasks[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.seed = 1
    assert isinstance(from_dict(to_dict(config)), Config)
