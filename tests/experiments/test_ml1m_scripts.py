"""The scripts of ml-1m: folds of months, hidden items, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from absl import flags

from experiments import beside, ml1m_text, rolling
from mtl_jax.config import load
from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import Prepared, open_prepared
from mtl_jax.data.schema import RawData
from mtl_jax.data.sources.collm import COLUMNS

CONFIG = "experiments/configs/ml1m.py"


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def raw_events(n: int = 200) -> RawData:
    rng = np.random.default_rng(0)
    start = rolling.seconds("2001-06-01")
    frame = pl.DataFrame(
        {
            "user": [str(u) for u in rng.integers(1, 9, n)],
            "item": [str(i) for i in rng.integers(1, 31, n)],
            "time": start + np.sort(rng.integers(0, 300 * 86_400, n)),
            "like": rng.integers(0, 2, n).astype(float),
            "split": np.zeros(n, np.int64),
        }
    )
    items = pl.DataFrame({"item": [str(i) for i in range(1, 31)]})
    return RawData("ml1m_collm", frame, items, frame.select("user").unique(), COLUMNS)


def test_a_fold_is_cut_by_its_days_and_never_looks_while_training():
    config = load(CONFIG, ["train.eval_part=valid", "train.monitor=like/auc"])
    found = rolling.fold_config(config, "2002-01-01:2002-04-01")
    assert (found.data.split, found.data.valid_from, found.data.test_from) == (
        "time",
        1_009_843_200,
        1_017_619_200,
    )
    assert (found.train.eval_part, found.train.monitor) == ("", "")
    for wrong in ("2002-01-01", "2002-01-01:april"):
        with pytest.raises(UserError, match="--fold"):
            rolling.fold_config(config, wrong)


def test_every_row_of_the_months_is_asked_once_by_a_model_that_never_met_its_item():
    raw, fold = raw_events(), "2001-10-01:2002-01-01"
    start, end = rolling.seconds("2001-10-01"), rolling.seconds("2002-01-01")
    asked = np.zeros(raw.events.height, int)
    for part in range(5):
        events = ml1m_text.hidden_raw(raw, part, fold).events
        train, valid = events.filter(split=0), events.filter(split=1)
        assert train.height
        assert train["time"].max() < start
        assert not set(train["item"]) & set(valid["item"])
        asked += (events["split"] == 1).to_numpy()
    within = raw.events["time"].is_between(start, end, closed="left").to_numpy()
    np.testing.assert_array_equal(asked, within.astype(int))


def test_the_arms_differ_in_text_alone():
    config = load(CONFIG)
    with_text, without = (
        ml1m_text.arm_config(config, arm, Path("prepared")) for arm in ml1m_text.ARMS
    )
    assert with_text.data == without.data
    assert not [key for key in with_text.data.statistics.keys if "item" in key.split("*")]
    assert (with_text.encoder.folder, without.encoder.folder) == ("minilm", "")
    assert with_text.train == without.train
    assert dataclasses.replace(with_text.model, wide_text=False) == without.model


def test_an_oracle_of_other_rows_is_refused(tmp_path: Path):
    data = world(tmp_path)
    index = data.part(1)
    users = np.asarray(data.vocabulary("users").values)[data.events["user"][index]]
    at = np.asarray(data.events["row"][index])
    order = np.argsort(at)
    frame = pl.DataFrame(
        {
            "row": np.arange(len(index)),
            "uid": users[order],
            "floor": np.arange(len(index)) * 1.0,
            "trees": np.arange(len(index)) * 2.0,
        }
    )
    path = tmp_path / "oracle.parquet"
    frame.write_parquet(path)
    found = beside.others_of(data, index, path)
    for name, wanted in (("floor", np.arange(len(index))), ("trees", np.arange(len(index)) * 2)):
        score = beside.score_of(found, name, "click")
        assert score is not None
        np.testing.assert_array_equal(score[order], wanted)
    assert beside.score_of(found, "nobody", "click") is None
    named = frame.with_columns(trees_is_click=pl.col("floor") + 0.5)
    score = beside.score_of(named, "trees", "click")
    assert score is not None
    assert score[0] == 0.5
    frame.with_columns(uid=pl.lit("someone")).write_parquet(path)
    with pytest.raises(UserError, match="row by row"):
        beside.others_of(data, index, path)
    frame.head(3).write_parquet(path)
    with pytest.raises(UserError, match="3 rows"):
        beside.others_of(data, index, path)


def world(tmp_path: Path) -> Prepared:
    config = DataConfig(prepared=str(tmp_path / "prepared"), tokenizer="")
    small = dataclasses.replace(config.world, events=2000)
    return open_prepared(prepare(dataclasses.replace(config, world=small)))
