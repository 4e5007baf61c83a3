"""Rules fitted on training rows, and what they leave alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import COLUMNS

from mtl_jax.core.errors import UserError
from mtl_jax.data.clean import FLAGS
from mtl_jax.data.config import DataConfig, FittedConfig
from mtl_jax.data.fitted import HOUR, most_in_an_hour
from mtl_jax.data.prepare import prepare_raw
from mtl_jax.data.prepared import Prepared, open_prepared
from mtl_jax.data.schema import Label, RawData


def prepared(raw: RawData, config: DataConfig, **fitted: Any) -> Prepared:
    changed = replace(config, split="given", fitted=FittedConfig(**fitted))
    return open_prepared(prepare_raw(raw, changed))


@pytest.fixture
def parted(raw: RawData) -> RawData:
    """The tiny tables with given parts by time, and a bot: u0's rows all within one hour."""
    n = raw.events.height
    part = np.repeat([0, 1, 2], [n - 40, 20, 20])
    time = pl.Series(np.arange(n) * 4 * HOUR + 1_000_000)
    bot = raw.events["user"] == "u0"
    at = 1_000_000 + pl.Series(np.arange(n)) + pl.Series(part) * 10**6
    events = raw.events.with_columns(
        pl.Series("split", part),
        pl.when(bot).then(at).otherwise(time).alias("time"),
        pl.Series("dwell", np.where(np.arange(n) % 25 == 7, 1e4, np.arange(n) % 10.0)),
    )
    columns = replace(COLUMNS, labels=(*COLUMNS.labels, Label("dwell", "value")))
    return replace(raw, events=events, columns=columns)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3 * HOUR)), min_size=1, max_size=40))
def test_most_in_an_hour_against_a_loop(rows: list[tuple[int, int]]) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    user, time = (np.array(column) for column in zip(*rows, strict=True))
    found = most_in_an_hour(user, time, 4)
    for u in range(4):
        mine = time[user == u]
        most = max((int(((mine > t - HOUR) & (mine <= t)).sum()) for t in mine), default=0)
        assert found[u] == (0 if u == 0 else most)


def test_nothing_is_fitted_away_by_default(parted: RawData, config: DataConfig) -> None:
    data = prepared(parted, config)
    assert len(data.events["row"]) == parted.events.height
    assert not np.any(data.events["flag"])
    assert "busiest user in training: " in (data.folder / "report.md").read_text()


def test_bots_leave_training_and_are_flagged_after(parted: RawData, config: DataConfig) -> None:
    mine = parted.events["user"] == "u0"
    later = int((mine & (parted.events["split"] > 0)).sum())
    training = int((mine & (parted.events["split"] == 0)).sum())
    assert later > 0
    assert training > 3
    data = prepared(parted, config, bot_events=training)
    assert len(data.events["row"]) == parted.events.height - training
    flagged = np.asarray(data.events["flag"]) & FLAGS["bot"] > 0
    of_bot = np.asarray(data.events["user"]) == data.vocabulary("users").values.index("u0")
    assert np.array_equal(flagged, of_bot)
    assert flagged.sum() == later
    told = next(r for r in data.manifest["report"]["rules"] if r["rule"] == "bots")
    assert (told["dropped"], told["flagged"]) == (training, later)
    assert data.manifest["split"]["rows"]["left out"] == training
    assert not np.any(np.asarray(data.events["user"])[data.history["row"]] == 1)


def test_one_event_fewer_is_no_bot(parted: RawData, config: DataConfig) -> None:
    training = int(((parted.events["user"] == "u0") & (parted.events["split"] == 0)).sum())
    data = prepared(parted, config, bot_events=training + 1)
    assert len(data.events["row"]) == parted.events.height


def test_a_limit_that_drops_everyone_is_refused(parted: RawData, config: DataConfig) -> None:
    with pytest.raises(UserError, match="drops every training row"):
        prepared(parted, config, bot_events=1)


def test_labels_far_out_are_cut_in_training_alone(parted: RawData, config: DataConfig) -> None:
    data = prepared(parted, config, outlier_fences=3.0)
    dwell, part = np.asarray(data.events["label_dwell"]), np.asarray(data.events["split"])
    raw_dwell = parted.events["dwell"].to_numpy()
    train = parted.events["split"].to_numpy() == 0
    first, third = np.quantile(raw_dwell[train], [0.25, 0.75])
    assert dwell[part == 0].max() == pytest.approx(third + 3 * (third - first))
    assert dwell[part > 0].max() == 1e4
    flagged = np.asarray(data.events["flag"]) & FLAGS["outlier"] > 0
    assert np.array_equal(flagged, (dwell == 1e4) & (part > 0))
    assert np.nanmax(np.asarray(data.events["label_rating"])) == 5  # its range is known


def test_numbers_far_out_are_cut_as_training_says(parted: RawData, config: DataConfig) -> None:
    price = np.arange(13.0)
    price[[5, 12]] = 1e6  # item 5 has training rows, item 12 has none
    items = parted.items.with_columns(pl.Series("price", price))
    data = prepared(replace(parted, items=items), config, outlier_fences=3.0)
    dense = np.asarray(data.items["dense"])[1:, 0]
    assert dense[5] == dense[12] == dense.max() < 5
    assert "cut to" in (data.folder / "report.md").read_text()


def test_rare_and_later_values_share_buckets(parted: RawData, config: DataConfig) -> None:
    brands = ["often"] * 8 + ["once", "once too", "", "later", "later too"]
    items = parted.items.with_columns(pl.Series("brand", brands))
    raw = replace(parted, items=items)
    data = prepared(raw, config, min_count=2, buckets=(("brand", 3),))
    codes = np.asarray(data.items["cat_brand"])[1:]
    assert data.vocabulary("cat_brand").values == ("", "often")
    assert set(codes[:8]) == {1}
    assert codes[10] == 0  # missing is not hashed
    assert np.all((codes[[8, 9, 11, 12]] >= 2) & (codes[[8, 9, 11, 12]] < 5))
    assert len(set(codes[[8, 9, 11, 12]])) > 1
    assert next(c for c in data.schema.item_categorical if c.name == "brand").size == 5
    again = data.vocabulary("cat_brand").encode(pl.Series(["later", "often", "unheard of"]))
    assert again[0] == codes[11]
    assert again[2] >= 2


def test_rare_values_are_unknown_without_buckets(parted: RawData, config: DataConfig) -> None:
    brands = ["often"] * 8 + ["once", "once too", "", "later", "later too"]
    raw = replace(parted, items=parted.items.with_columns(pl.Series("brand", brands)))
    codes = np.asarray(prepared(raw, config, min_count=2).items["cat_brand"])[1:]
    assert codes.tolist() == [1] * 8 + [0] * 5


def test_buckets_of_no_column_are_refused(parted: RawData, config: DataConfig) -> None:
    with pytest.raises(UserError, match="brand"):
        prepared(parted, config, buckets=(("brnad", 3),))
