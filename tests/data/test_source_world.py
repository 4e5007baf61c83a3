from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.clean import clean
from mtl_jax.data.config import DataConfig, WorldConfig
from mtl_jax.data.prepare import prepare, up_to_date
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources import world
from mtl_jax.data.sources.world import COLUMNS, load_world
from mtl_jax.data.world import generate


def test_the_tables_are_clean_and_labels_as_generated() -> None:
    raw = load_world("", events=2000, seed=3)
    cleaned = clean(raw)
    assert all(r.dropped == r.repaired == 0 for r in cleaned.report.rules)
    truth = generate(2000, 3)
    for label in COLUMNS.labels:
        wanted = getattr(truth.events, label.name)
        got = raw.events[label.name].fill_null(np.nan).to_numpy().astype(np.float32)
        np.testing.assert_array_equal(got, wanted)
    assert raw.events["item"][7] == truth.items.id[truth.events.item[7]]


def test_no_truth_reaches_the_model() -> None:
    raw = load_world("", events=2000, seed=0)
    named = {label.name for label in COLUMNS.labels} | {"user", "item", "time", "device", "place"}
    assert set(raw.events.columns) == named
    assert set(raw.items.columns) == {
        "item", "title", "description", "category", "brand", "price", "log_price"
    }  # fmt: skip
    assert set(raw.users.columns) == {"user", "age", "gender", "region"}


def test_it_is_prepared_once_for_each_size_seed_and_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(prepared=str(tmp_path / "p"), world=WorldConfig(2000, 0))
    target = prepare(config)
    assert up_to_date(config, target)
    assert not up_to_date(replace(config, world=WorldConfig(2000, 1)), target)
    assert not up_to_date(replace(config, world=WorldConfig(2001, 0)), target)
    assert not up_to_date(replace(config, world=WorldConfig(2000, 0, 0.5)), target)
    manifest = open_prepared(target).manifest
    assert "world.py" in [name for name, _ in manifest["raw"]["files"]]
    prepared_files = tuple((name, "0" * 64) for name, _ in world.generating_files())
    monkeypatch.setattr(world, "generating_files", lambda: prepared_files)
    other = prepare(replace(config, prepared=str(tmp_path / "q")))
    assert not up_to_date(replace(config, prepared=str(other)), other)


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(UserError, match="2,000"):
        load_world("", events=10, seed=0)


def test_the_conflict_reaches_the_tables_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    raw = load_world("", events=2000, seed=3, conflict=0.5)
    wanted = generate(2000, 3, 0.5).events.purchase
    got = raw.events["purchase"].fill_null(np.nan).to_numpy().astype(np.float32)
    np.testing.assert_array_equal(got, wanted)
    config = DataConfig(prepared=str(tmp_path / "p"), world=WorldConfig(2000, 0, 1.5))
    with pytest.raises(UserError, match=r"data\.world\.conflict=1\.5"):
        prepare(config)
