import dataclasses

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import (
    DAY,
    HOUR,
    WEEK,
    BatchConfig,
    Rows,
    distinct,
    item_tables,
    local,
    padded,
    padded_rows,
    time_features,
)


def rows(n=6, h=3):
    item = np.array([5, 9, 5, 2, 2, 7], np.int32)[:n]
    history = np.array([[9, 2, 0], [5, 0, 0], [0, 0, 0], [7, 7, 5], [2, 0, 0], [0, 0, 0]], np.int32)
    zero = np.zeros(n, np.int64)
    return Rows(
        zero.astype(np.int32), item, zero, history, history, history.astype(np.float32),
        np.arange(n * 2.0).reshape(n, 2), {"place": item}, {"a": item}, {"a": item > 4},
    )  # fmt: skip


def test_rows_per_shard_and_sizes_that_do_not_divide():
    assert BatchConfig(size=24, accumulate=3, shards=2).rows_per_shard() == 4
    assert BatchConfig(size=24, accumulate=3, shards=0).rows_per_shard() == 8
    with pytest.raises(UserError, match=r"batch\.size=25 is not a multiple of .*3 x 2"):
        BatchConfig(size=25, accumulate=3, shards=2).rows_per_shard()


def test_each_distinct_item_stands_once_in_its_shards_table():
    candidates = [np.array([5, 11], np.int32), np.array([11], np.int32)]
    tables, sizes = item_tables(rows(), candidates, 1, 2)
    assert [t.tolist() for t in tables] == [[0, 2, 5, 9, 11], [0, 2, 5, 7, 11]]
    assert sizes.tolist() == [5, 5]


@pytest.mark.parametrize("last", [9, 100_000])
def test_indices_lead_back_to_the_items(last):
    items = np.array([[last, 0], [2, 5], [5, 5]])
    table = distinct(items)
    assert table.tolist() == [0, 2, 5, last]
    assert table.dtype == items.dtype
    at = local(table, items)
    assert at.dtype == np.int32
    np.testing.assert_array_equal(table[at], items)


def test_padding_of_tables():
    np.testing.assert_array_equal(padded(np.array([0, 4]), 4, 0), [0, 4, 0, 0])
    rows = padded_rows(np.array([1, 4]), 4, 77)
    assert rows[:2].tolist() == [1, 4]
    assert (rows[2:] >= 77).all(), "beyond the table"
    assert len(set(rows.tolist())) == 4, "a scatter is told that its rows are distinct"


def test_taking_rows_takes_every_column():
    taken, whole = rows().take(np.array([4, 1])), rows()
    for f in dataclasses.fields(Rows):
        old, new = getattr(whole, f.name), getattr(taken, f.name)
        if old is None:
            assert new is None
            continue
        pairs = [(old, new)] if isinstance(old, np.ndarray) else [(old[k], new[k]) for k in old]
        for a, b in pairs:
            np.testing.assert_array_equal(b, a[[4, 1]])


def test_time_features_are_hours_of_week_and_year():
    monday = 1_704_067_200  # Monday 1 January 2024, 00:00 UTC
    times = np.array([monday, monday + 5 * HOUR, monday + 2 * DAY, monday + WEEK, monday - HOUR])
    found = time_features(times)
    week, year = found["ctx/hour_of_week"], found["ctx/hour_of_year"]
    np.testing.assert_allclose(week, [0, 5, 48, 0, 167], atol=1e-3)
    np.testing.assert_allclose(np.diff(year[:2]), 5, atol=1e-2)
    assert week.dtype == np.float32
    assert (year >= 0).all()
    assert (year < 8767).all()


@pytest.mark.parametrize("n", [60, 6000])  # by flags, and by sorting where the table is long
def test_distinct_rows_and_places_are_those_of_sorting(n):
    ids = np.random.default_rng(0).integers(0, 50, (4, 9), np.int32)
    ids[0, 0] = n - 1
    rows = distinct(ids)
    wanted, place = np.unique(ids, return_inverse=True)
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_array_equal(local(rows, ids), place.reshape(ids.shape))
    assert (rows.dtype, local(rows, ids).dtype) == (np.int32, np.int32)
    padded = padded_rows(rows, 64, n)
    assert (np.diff(padded) > 0).all(), "distinct and ascending, padding as well"
