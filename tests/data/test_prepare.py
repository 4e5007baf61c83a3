import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny import make_raw

from mtl_jax.core.errors import UserError
from mtl_jax.data import sources
from mtl_jax.data.clean import FLAGS
from mtl_jax.data.config import DataConfig
from mtl_jax.data.history_features import Entries
from mtl_jax.data.prepare import prepare, prepare_raw
from mtl_jax.data.prepared import Prepared, open_prepared
from mtl_jax.data.schema import RawData
from mtl_jax.data.split import PARTS


@pytest.fixture
def prepared(raw: RawData, config: DataConfig) -> Prepared:
    return open_prepared(prepare_raw(raw, config), verify=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_events_are_sorted_and_decode_to_the_source(raw: RawData, prepared: Prepared) -> None:
    e = prepared.events
    order = list(zip(e["time"].tolist(), e["row"].tolist(), strict=True))
    assert order == sorted(order)
    rows = raw.events[e["row"].tolist()]
    users, items = prepared.vocabulary("users"), prepared.vocabulary("items")
    assert [users.values[i] for i in e["user"]] == rows["user"].to_list()
    assert [items.values[i] for i in e["item"]] == rows["item"].to_list()
    devices = prepared.vocabulary("ctx_device")
    assert [devices.values[i] for i in e["ctx_device"]] == rows["device"].to_list()
    wanted = rows["rating"].fill_null(np.nan).to_numpy().astype(np.float32)
    np.testing.assert_array_equal(e["label_rating"], wanted)
    assert items.values[:4] == ("", "i0", "i1", "i2")


def test_shapes_types_and_schema(raw: RawData, prepared: Prepared) -> None:
    schema, n = prepared.schema, raw.events.height
    assert (schema.n_users, schema.n_items) == (9, 14)
    assert prepared.events["stats"].shape == (n, len(schema.statistics))
    assert prepared.events["stats"].dtype == np.float32
    assert prepared.events["next_items"].shape == (n, 5)
    assert prepared.items["tags"].shape == (14, schema.tag_width) == (14, 3)
    assert prepared.items["dense"].shape == (14, 2) == (14, len(schema.item_dense))
    assert prepared.users["dense"].shape == (9, 2)
    for column in schema.item_categorical:
        codes = prepared.items[f"cat_{column.name}"]
        assert codes.dtype == np.int32
        assert codes.max() == column.size - 1
        assert codes[0] == 0
    assert schema.n_categories == 4
    assert prepared.history["type"].max() < schema.history_types
    assert schema.history_values == ()
    rows = np.asarray(prepared.history["row"])
    assert len(rows)
    for name in ("item", "time"):
        assert (prepared.events[name][rows] == prepared.history[name]).all()
    assert isinstance(prepared.events["user"], np.memmap)
    with pytest.raises(KeyError):
        prepared.events["nothing"]


def test_what_is_fitted_is_fitted_on_train(raw: RawData, config: DataConfig) -> None:
    cut = int(raw.events["time"][100])
    late = pl.col("time") >= cut
    events = raw.events.with_columns(
        pl.when(late).then(pl.lit("tv")).otherwise(pl.col("device")).alias("device"),
        pl.when(late).then(pl.lit("i12")).otherwise(pl.col("item")).alias("item"),
    )
    items = raw.items.with_columns(
        pl.when(pl.col("item") == "i12").then(pl.lit("new")).otherwise("category").alias("category")
    )
    changed = replace(raw, events=events, items=items)
    config = replace(config, valid_from=cut)
    data = open_prepared(prepare_raw(changed, config))
    train, cold = data.events["split"] == 0, 13
    assert data.vocabulary("ctx_device").values == ("", "desk", "phone")
    assert set(data.events["ctx_device"][~train]) == {0}
    assert "new" not in data.vocabulary("cat_category").values
    assert data.items["cat_category"][cold] == 0
    assert not data.items["warm"][cold]
    assert data.items["warm"].sum() == len(np.unique(data.events["item"][train])) == data.n_warm
    liked = train & (data.events["label_click"] == 1)
    assert data.items["positives"].sum() == liked.sum()
    assert data.positive_rate == pytest.approx(liked.sum() / train.sum())
    assert data.positive_share.sum() == pytest.approx(1)


def test_later_rows_have_the_frozen_tables_features(prepared: Prepared) -> None:
    e = prepared.events
    later = np.flatnonzero(e["split"] > 0)
    contexts = {"device": e["ctx_device"][later]}
    h = prepared.history
    entries = Entries(h["item"], h["time"], e["hist_start"][later], e["hist_stop"][later])
    got = prepared.frozen_features(
        e["user"][later], e["item"][later], contexts, e["time"][later], entries
    )
    np.testing.assert_array_equal(got, e["stats"][later])
    names = [column.name for column in prepared.schema.statistics]
    assert "item*context.device.click.rate" in names
    assert "history*tags.log_ratio" in names


def test_history_columns_can_be_left_out(raw: RawData, config: DataConfig) -> None:
    without = replace(config, statistics=replace(config.statistics, history=False))
    data = open_prepared(prepare_raw(raw, without))
    assert not [c for c in data.schema.statistics if c.name.startswith("history")]
    assert data.events["stats"].shape[1] == len(data.schema.statistics)
    assert data.history_statistics is None


def test_standardised_columns_can_be_cut(raw: RawData, config: DataConfig) -> None:
    cut = replace(config, statistics=replace(config.statistics, clip=1.5))
    data = open_prepared(prepare_raw(raw, cut))
    scaled = data.standardised(data.events["stats"])
    assert scaled.max() == 1.5
    assert scaled.min() == -1.5


def test_labels_of_later_rows_move_no_statistic(
    raw: RawData, config: DataConfig, tmp_path: Path
) -> None:
    before = open_prepared(prepare_raw(raw, config))
    stats, later = np.array(before.events["stats"]), np.array(before.events["split"]) > 0
    rows = pl.Series(before.events["row"][later])
    hit = pl.int_range(pl.len()).is_in(rows.implode())
    flipped = raw.events.with_columns(
        click=pl.when(hit).then(1 - pl.col("click")).otherwise(pl.col("click")),
        rating=pl.when(hit).then(5.0).otherwise(pl.col("rating")),
    )
    other = replace(config, prepared=str(tmp_path / "other"))
    after = open_prepared(prepare_raw(replace(raw, events=flipped), other))
    np.testing.assert_array_equal(after.events["stats"][~later], stats[~later])
    # A later row's own history tells what its user liked before it, of later days too.
    names = [column.name for column in before.schema.statistics]
    counted = np.array([not name.startswith("history") for name in names])
    np.testing.assert_array_equal(after.events["stats"][:, counted], stats[:, counted])
    assert (after.events["label_click"][later] != before.events["label_click"][later]).all()
    train = ~later
    np.testing.assert_array_equal(
        after.events["next_items"][train], before.events["next_items"][train]
    )


def test_statistics_can_be_standardised(prepared: Prepared) -> None:
    train = prepared.events["split"] == 0
    scaled = prepared.standardised(prepared.events["stats"][train])
    spread = scaled.std(0)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    assert ((abs(spread - 1) < 1e-3) | (spread == 0)).all()


def test_histories_lie_before_their_rows(prepared: Prepared) -> None:
    e, h = prepared.events, prepared.history
    lengths = e["hist_stop"] - e["hist_start"]
    assert lengths.max() > 3
    for row in np.flatnonzero(lengths):
        here = slice(e["hist_start"][row], e["hist_stop"][row])
        assert (h["time"][here] < e["time"][row]).all()
        assert (h["item"][here] > 0).all()


def test_texts(prepared: Prepared) -> None:
    assert prepared.texts[:3] == ("", "Thing 0. made of stuff 0", "Thing 1. made of stuff 1")
    assert "tokens" not in prepared.items


def test_preparing_twice_gives_the_same_bytes(
    raw: RawData, config: DataConfig, tmp_path: Path
) -> None:
    other = replace(config, prepared=str(tmp_path / "again" / "there"))
    first, second = prepare_raw(raw, config), prepare_raw(raw, other)
    assert contents(first) == contents(second)
    assert contents(prepare_raw(raw, config)) == contents(second)
    assert not list(tmp_path.rglob(".*"))


def test_given_parts_and_histories(raw: RawData, config: DataConfig) -> None:
    n = raw.events.height
    split = np.repeat([0, 1, 2], [n - 30, 20, 10])
    bad = pl.int_range(pl.len()).is_in([n - 20, n - 1])
    first = raw.events["time"][0]
    events = raw.events.with_columns(
        split=pl.Series(split),
        history=pl.Series([["i0", "gone", "i12"]] * n),
        history_time=pl.Series([[first, first, first]] * n),
        item=pl.when(bad).then(pl.lit("nowhere")).otherwise(pl.col("item")),
        time=pl.when(bad).then(0).otherwise(pl.col("time")),
    )
    items = raw.items.with_columns(
        brand=pl.when(pl.col("item") == "i12").then(pl.lit("seen")).otherwise(pl.lit("b"))
    )
    changed = replace(raw, events=events, items=items)
    data = open_prepared(prepare_raw(changed, replace(config, split="given")))
    e = data.events
    # i12 is in no training row, but training rows' histories show it
    assert data.vocabulary("cat_brand").values == ("", "b", "seen")
    assert np.bincount(e["split"]).tolist() == [n - 30, 20, 10]
    flagged = np.flatnonzero(e["flag"])
    assert e["flag"][flagged].tolist() == [FLAGS["impossible time"] | FLAGS["unknown item"]] * 2
    assert e["item"][flagged].tolist() == [0, 0]
    assert e["split"][flagged].tolist() == [1, 2]
    lengths = e["hist_stop"] - e["hist_start"]
    np.testing.assert_array_equal(lengths, np.where(e["time"] > first, 2, 0))
    assert set(data.history["item"]) == {1, 13}
    assert "given history entries not before their row" in " ".join(
        data.manifest["report"]["notes"]
    )


def test_flagged_rows_enter_no_history(raw: RawData, config: DataConfig) -> None:
    n = raw.events.height
    events = raw.events.with_columns(click=pl.lit(1.0), split=pl.Series([0] * (n - 20) + [1] * 20))
    repeated = events[n - 20 : n - 19]
    events = pl.concat([events, repeated])
    data = open_prepared(prepare_raw(replace(raw, events=events), replace(config, split="given")))
    assert data.events["flag"].tolist().count(FLAGS["duplicate event"]) == 1
    assert len(data.events["flag"]) == n + 1
    assert len(data.history["item"]) == n


def test_tokens(raw: RawData, config: DataConfig, tokenizer_folder: Path) -> None:
    items = raw.items.with_columns(title=pl.lit("red shoe"), description=pl.lit("hat"))
    config = replace(
        config,
        tokenizer=str(tokenizer_folder),
        template="{title}",
        template_pair="{description}",
        max_tokens=6,
    )
    data = open_prepared(prepare_raw(replace(raw, items=items), config))
    offsets, n = data.items["token_offsets"], data.schema.n_items
    assert offsets.shape == (n + 1,)
    assert offsets.tolist() == [0, *range(0, 6 * n, 6)]  # item 0 has none
    assert data.items["tokens"][:6].tolist() == [2, 4, 6, 3, 7, 3]
    assert data.items["token_types"][:6].tolist() == [0, 0, 0, 0, 1, 1]
    assert data.schema.token_types
    assert data.texts[1] == "red shoe hat"
    assert data.manifest["tokenizer"][0][0] == "tokenizer.json"


def test_one_class_and_empty_labels_are_recorded(
    with_events: Callable[..., RawData], config: DataConfig
) -> None:
    changed = with_events(buy=pl.lit(1.0), rating=pl.lit(None, pl.Float64))
    data = open_prepared(prepare_raw(changed, config))
    report = (data.folder / "report.md").read_text()
    assert "one class only (1)" in report
    assert "| rating | train | 83 | 0 | 0.0000 | no values" in report
    assert np.isfinite(data.events["stats"]).all()


@pytest.mark.parametrize("split", ["time", "leave_last_out"])
def test_manifest(raw: RawData, config: DataConfig, split: Any) -> None:
    data = open_prepared(prepare_raw(raw, replace(config, split=split)))
    told = data.manifest["split"]
    assert told["rule"] == split
    assert list(told["rows"].values()) == [*(len(data.part(code)) for code in range(3)), 0]
    rows = pl.read_parquet(data.folder / "split.parquet")
    parts = np.asarray(data.events["split"])[np.argsort(data.events["row"])]
    assert rows["part"].to_list() == [PARTS[code] for code in parts]
    assert len(told["sha256"]) == 64
    assert data.manifest["raw"]["files"] == [["events.csv", "0" * 64]]


def test_a_failure_leaves_nothing(raw: RawData, config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'nme'"):
        prepare_raw(raw, replace(config, template="{nme}"))
    assert list(tmp_path.iterdir()) == []
    before = contents(prepare_raw(raw, config))
    with pytest.raises(UserError, match="no column 'nme'"):
        prepare_raw(raw, replace(config, template="{nme}"))
    assert contents(Path(config.prepared)) == before


def test_a_killed_run_leaves_no_folder(config: DataConfig) -> None:
    here = str(Path(__file__).parent)
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {here!r})\n"
        "from tiny import make_raw\n"
        "from mtl_jax.data import write\n"
        "from mtl_jax.data.config import DataConfig\n"
        "from mtl_jax.data.prepare import prepare_raw\n"
        "write._write_texts = lambda *a: os.kill(os.getpid(), 9)\n"
        f"prepare_raw(make_raw(), DataConfig(source='tiny', prepared={config.prepared!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    target = Path(config.prepared)
    assert done.returncode == -9
    assert not target.exists()
    assert len(list(target.parent.glob(".prepared.*.new"))) == 1
    prepare_raw(make_raw(), config)
    assert [path.name for path in target.parent.iterdir()] == ["prepared"]


def test_something_else_is_never_overwritten(raw: RawData, config: DataConfig) -> None:
    target = Path(config.prepared)
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is no prepared folder"):
        prepare_raw(raw, config)
    assert (target / "thesis.tex").read_text() == "precious"


def test_an_unwritable_target_is_refused(raw: RawData, config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        prepare_raw(raw, replace(config, prepared=str(tmp_path / "file" / "prepared")))


class Counting:
    """A source that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, folder: str) -> RawData:
        self.reads += 1
        path = Path(folder) / "events.csv"
        from mtl_jax.data.prepared import file_digest

        return replace(make_raw(), files=(("events.csv", file_digest(path)),))


def test_prepare_reads_again_only_when_something_changed(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Counting()
    monkeypatch.setitem(sources.SOURCES, "tiny", source)
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "events.csv").write_text("a")
    config = replace(config, folder=str(folder))
    prepare(config)
    prepare(config)
    assert source.reads == 1
    prepare(replace(config, max_tokens=64))
    assert source.reads == 2
    prepare(config)
    assert source.reads == 3
    (folder / "events.csv").write_text("b")  # same size, other bytes
    prepare(config)
    assert source.reads == 4
    (folder / "test.csv").write_text("a part that was not there before")
    prepare(config)
    assert source.reads == 5
    (Path(config.prepared) / "events" / "user.npy").write_bytes(b"short")
    prepare(config)
    assert source.reads == 6
    prepare(config)
    assert source.reads == 6


def test_an_unknown_source_is_refused(config: DataConfig) -> None:
    with pytest.raises(UserError, match=r"data\.source='tiny' is not one of"):
        prepare(config)


def test_open_refuses_what_was_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        open_prepared(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        open_prepared(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(UserError, match="format 0, this version reads"):
        open_prepared(tmp_path)


def test_open_names_damaged_files(prepared: Prepared) -> None:
    folder = prepared.folder
    vocabulary = folder / "vocab" / "items.json"
    whole = vocabulary.read_text()
    vocabulary.write_text(whole.replace('"i1"', '"j1"'))
    with pytest.raises(UserError, match=r"items\.json: vocabulary mismatch"):
        open_prepared(folder)
    vocabulary.write_text(whole)
    stats = folder / "events" / "stats.npy"
    stats.write_bytes(stats.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"stats\.npy: truncated or changed"):
        open_prepared(folder)
    stats.unlink()
    with pytest.raises(UserError, match=r"stats\.npy is missing"):
        open_prepared(folder)


def test_verify_hashes_every_file(prepared: Prepared) -> None:
    path = prepared.folder / "events" / "user.npy"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    open_prepared(prepared.folder)
    with pytest.raises(UserError, match=r"user\.npy: changed"):
        open_prepared(prepared.folder, verify=True)


def test_another_vocabulary_is_refused(prepared: Prepared, config: DataConfig) -> None:
    digest = prepared.vocabulary_digest
    prepared.require_vocabulary(digest, "the checkpoint")
    other = open_prepared(prepare_raw(make_raw(seed=1, items=9), config))
    with pytest.raises(UserError, match="vocabulary mismatch: the checkpoint"):
        other.require_vocabulary(digest, "the checkpoint")


@pytest.mark.parametrize("split", ["ratio", "kfold"])
@pytest.mark.parametrize("history", ["positive", "all"])
def test_where_rows_are_drawn_histories_hold_training_rows_alone(
    raw: RawData, config: DataConfig, split: Any, history: Any
) -> None:
    own = replace(config.statistics, history=False)
    data = open_prepared(
        prepare_raw(raw, replace(config, split=split, history=history, statistics=own))
    )
    entries = np.asarray(data.history["row"])
    assert len(entries) > 5
    assert set(np.asarray(data.events["split"])[entries]) == {0}


def test_rows_that_rolling_leaves_out_are_nowhere(raw: RawData, config: DataConfig) -> None:
    data = open_prepared(prepare_raw(raw, replace(config, split="rolling", folds=3, fold=1)))
    told = data.manifest["split"]["rows"]
    assert told["left out"] > 0
    assert len(data.events["row"]) == told["train"] + told["valid"]
    later = raw.events["time"].sort()[told["train"] + told["valid"] :]
    assert np.max(data.events["time"]) < later.min()
    assert f"{told['left out']} left out rows" in (data.folder / "report.md").read_text()


def test_earlier_events_stand_in_histories_alone(raw: RawData, config: DataConfig) -> None:
    earlier = pl.DataFrame(
        {
            "user": ["u0", "u0", "u1", "nobody", "u0"],
            "item": ["i3", "i12", "i1", "i1", "no such item"],
            "time": [10, 10, 20, 20, 20],
            "click": [1.0, 1.0, 0.0, 1.0, 1.0],
            "buy": [1.0, None, None, None, None],
            "rating": [None] * 5,
        }
    )
    without = open_prepared(prepare_raw(raw, config))
    sums = np.array(without.events["stats"])
    history = Path(config.prepared).with_name("with")
    data = open_prepared(
        prepare_raw(replace(raw, earlier=earlier), replace(config, prepared=str(history)))
    )
    assert len(data.events["row"]) == len(without.events["row"])
    ids = {name: code for code, name in enumerate(data.vocabulary("items").values)}
    user = {name: code for code, name in enumerate(data.vocabulary("users").values)}
    at = int(np.argmax(np.asarray(data.events["user"]) == user["u0"]))
    start = data.events["hist_start"][at]
    assert data.history["item"][start : start + 2].tolist() == [ids["i3"], ids["i12"]]
    assert data.history["row"][start : start + 2].tolist() == [-1, -1]
    assert len(data.history["row"]) == len(without.history["row"]) + 2
    names = [column.name for column in data.schema.statistics]
    own = [i for i, name in enumerate(names) if not name.startswith("history")]
    assert np.array_equal(np.asarray(data.events["stats"])[:, own], sums[:, own])
