"""Batches of the tiny world: pure functions of (data, seed, k), each distinct item once."""

from dataclasses import replace

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.pipeline import TrainStream, prefetched, rows_of
from worlds import assembler_of, world_data


@pytest.fixture(scope="module")
def data(shared_folder):
    return world_data(shared_folder)


def stream_of(data, seed=0, shards=1, **options):
    assembler = assembler_of(data, **options)
    return TrainStream(assembler, rows_of(assembler, "train"), seed, shards)


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a
    )


def test_batch_k_is_a_function_of_data_seed_and_k_alone(data):
    first, second = stream_of(data), stream_of(data)
    later = first.steps_per_epoch + 1
    for k in (later, 0, 3):  # in another order, over an epoch's end
        assert same(first.batch(k), second.batch(k))
    assert same(second.batch(later), first.batch(later))
    assert not same(first.batch(0), first.batch(1))
    assert not same(first.batch(0), stream_of(data, seed=1).batch(0))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_number_of_workers_changes_nothing(data, workers):
    plain = stream_of(data)
    ahead = prefetched(stream_of(data, workers=workers), 2, 7)
    found = list(ahead)
    assert len(found) == 5
    assert all(same(batch, plain.batch(k)) for k, batch in enumerate(found, start=2))


def test_what_goes_wrong_in_a_batch_is_told_and_closing_ends_the_building(data, monkeypatch):
    built = []

    def batch(self, k):
        built.append(k)
        if k == 4:
            raise ValueError("batch 4")
        return {"k": k}

    monkeypatch.setattr(TrainStream, "batch", batch)
    with pytest.raises(ValueError, match="batch 4"):
        list(prefetched(stream_of(data, workers=2), 2, 7))
    built.clear()
    ahead = prefetched(stream_of(data, workers=1), 10, 99)
    assert next(ahead) == {"k": 10}
    ahead.close()
    assert built == [10, 11, 12][: len(built)], "in order, and no more than the stock"


def test_an_epoch_is_a_permutation_of_the_labelled_training_rows(data):
    stream = stream_of(data)
    rows = np.concatenate([stream.rows(k) for k in range(stream.steps_per_epoch)])
    assert len(set(rows.tolist())) == len(rows) > len(stream.index) - 64
    assert set(rows) <= set(stream.index)
    assert (np.asarray(data.events["split"])[rows] == 0).all()
    assert np.isfinite(np.asarray(data.events["label_click"])[rows]).all()
    assert stream.rows(0).tolist() != stream.rows(stream.steps_per_epoch).tolist()


@pytest.mark.parametrize(("accumulate", "shards"), [(1, 1), (1, 2), (2, 2)])
def test_each_distinct_item_once_and_all_indices_lead_home(data, accumulate, shards):
    stream = stream_of(data, accumulate=accumulate, shards=shards)
    batch, index = stream.batch(5), stream.rows(5)
    rows = stream.assembler.event_rows(index)
    shape = (accumulate, shards, 64 // accumulate // shards)
    assert batch["item"].shape == shape
    assert batch["hist"].shape == (*shape, 4)
    ids = batch["items/id"]
    for a in range(accumulate):
        for s in range(shards):
            real = ids[a, s][ids[a, s] > 0]
            assert len(set(real.tolist())) == len(real)
            assert ids[a, s, 0] == 0, "row 0 is the padding item"
            at = ids[a, s]
            where = np.arange(64).reshape(shape)[a, s]
            np.testing.assert_array_equal(at[batch["item"][a, s]], rows.item[where])
            np.testing.assert_array_equal(at[batch["hist"][a, s]], rows.history[where])
            used = {0, *rows.item[where], *rows.history[where].ravel(), *at[batch["cand"][a, s]]}
            assert set(real.tolist()) == used - {0}, "nothing else is in the table"
    users, items = (batch[f"uniq/{t}"].reshape(-1) for t in ("user", "item"))
    np.testing.assert_array_equal(users[batch["user"]].ravel(), rows.user)
    np.testing.assert_array_equal(items[batch["items/row"]], ids)
    for found, n in ((users, data.schema.n_users), (items, data.schema.n_items)):
        real = found[found < n]
        assert len(set(real.tolist())) == len(real)
        assert len(set(found.tolist())) == len(found), "padding is distinct too"


def test_every_batch_has_a_planned_shape(data):
    stream = stream_of(data)
    shapes = {(s.table, s.users, s.items) for s in stream.plan.shapes}
    assert len(shapes) <= 2
    for k in range(0, 2 * stream.steps_per_epoch, 3):
        b = stream.batch(k)
        assert (b["items/id"].shape[-1], b["uniq/user"].size, b["uniq/item"].size) in shapes


def test_what_is_wide_is_not_cut_but_planned(data):
    stream = stream_of(data)
    bound = stream.plan.shapes[-1]
    assert bound.users <= 64
    rows, candidates = stream.assembler.event_rows(stream.rows(0)), stream.candidates(0)
    assert bound.holds(stream.assembler.shape_of(rows, candidates, stream.parts))


def test_histories_are_before_the_row_and_most_recent_first(data):
    stream = stream_of(data)
    index = stream.index
    rows = stream.assembler.event_rows(index)
    age = np.where(rows.history > 0, rows.history_age, np.nan)
    assert np.nanmin(age) >= 0.0
    steps = np.diff(age, axis=1)
    assert (steps[np.isfinite(steps)] >= 0).all()
    assert (rows.history_type[rows.history == 0] == 0).all()
    full = rows.history[(rows.history > 0).sum(1) < 4]
    assert len(full)
    holes = (full[:, :-1] == 0) & (full[:, 1:] > 0)
    assert not holes.any(), "padding is at the end"


def test_values_of_the_history_are_those_of_its_own_events(data):
    """log_dwell has no range, so no type code tells of it; found by user, item and hour."""
    assert data.schema.history_values == ("log_dwell",)
    stream = stream_of(data)
    rows = stream.assembler.event_rows(stream.index)
    e = {
        k: np.asarray(data.events[k]) for k in ("user", "item", "time", "split", "label_log_dwell")
    }
    train = e["label_log_dwell"][e["split"] == 0]
    mean, std = np.nanmean(train, dtype=np.float64), np.nanstd(train, dtype=np.float64)
    checked = 0
    for r, j in zip(*np.nonzero(rows.history), strict=True):
        hours = np.log1p(np.maximum(rows.time[r] - e["time"], 0) / 3600.0)
        own = (e["user"] == rows.user[r]) & (e["item"] == rows.history[r, j])
        found = np.flatnonzero(own & (np.abs(hours - rows.history_age[r, j]) < 1e-5))
        value = e["label_log_dwell"][found]
        if len(found) != 1:
            continue
        wanted = [0.0, 0.0] if np.isnan(value[0]) else [(value[0] - mean) / std, 1.0]
        np.testing.assert_allclose(rows.history_value[r, j], wanted, rtol=1e-4, atol=1e-5)
        checked += wanted[1]
        if checked > 200:
            break
    assert checked > 200
    assert not rows.history_value[rows.history == 0].any()


def test_negatives_are_trained_items_and_their_share_is_corrected(data):
    stream = stream_of(data, negatives=8)
    warm = set(np.flatnonzero(data.items["warm"]).tolist())
    drawn = stream.candidates(3)[0]
    assert len(drawn) == 8
    assert set(drawn.tolist()) <= warm
    assert drawn.tolist() == stream.candidates(3)[0].tolist() != stream.candidates(4)[0].tolist()
    batch = stream.batch(3)
    cand = batch["items/id"][0, 0][batch["cand"][0, 0]]
    positive = batch["mask/next_item"][0, 0] > 0
    target = batch["items/id"][0, 0][batch["item"][0, 0]]
    np.testing.assert_array_equal(cand[:64], np.where(positive, target, 0))
    np.testing.assert_array_equal(cand[64:], drawn)
    share = data.positive_share[batch["items/id"][0, 0]]
    expected = share * 64 * data.positive_rate + 8 / len(warm)
    np.testing.assert_allclose(np.exp(batch["items/log_q"][0, 0]), expected, rtol=1e-5)


def test_expected_counts_are_those_of_many_batches(data):
    stream = stream_of(data, negatives=8)
    counts = np.zeros(data.schema.n_items)
    n = 4 * stream.steps_per_epoch
    for k in range(n):
        rows = stream.assembler.event_rows(stream.rows(k))
        np.add.at(counts, rows.item[rows.masks["next_item"] > 0], 1)
        np.add.at(counts, stream.candidates(k)[0], 1)
    expected = data.positive_share * 64 * data.positive_rate + 8 / data.n_warm
    popular = np.argsort(-data.positive_share)[:20]
    np.testing.assert_allclose(counts[popular].sum() / n, expected[popular].sum(), rtol=0.1)


@pytest.mark.parametrize("shards", [1, 2])
def test_all_trained_items_stand_as_candidates_once(data, shards):
    batch = stream_of(data, negatives=-1, shards=shards).batch(0)
    at = np.take_along_axis(batch["items/id"], batch["cand"], -1).ravel()
    real = at[at > 0]
    assert sorted(real.tolist()) == np.flatnonzero(data.items["warm"]).tolist()
    assert (batch["items/log_q"] == 0).all()


def test_no_candidates_where_no_task_asks_for_them(data):
    tasks = (TaskSpec("click", "binary", "click"),)
    batch = stream_of(data, tasks=tasks, negatives=8).batch(0)
    assert "cand" not in batch
    assert "items/log_q" not in batch


def test_a_batch_larger_than_the_data_is_refused(data):
    with pytest.raises(UserError, match=r"batch\.size=1000000 exceeds the \d+ training rows"):
        stream_of(data, size=1_000_000).batch(0)


def test_a_part_without_labels_is_refused(data):
    assembler = assembler_of(data, tasks=(TaskSpec("x", "binary", "nothing"),))
    with pytest.raises(UserError, match="part 'valid' has no row with a label of x"):
        rows_of(assembler, "valid")


def test_statistics_and_times_of_a_row_are_its_own(data):
    stream = stream_of(data, shards=2)
    batch, index = stream.batch(2), stream.rows(2)
    whole = data.standardised(data.events["stats"][index])
    for group in ("user", "item", "cross"):
        columns = list(data.schema.statistic_indices(group))
        np.testing.assert_array_equal(
            batch[f"stats_{group}"].reshape(64, -1), whole[:, columns], group
        )
    hours = (np.asarray(data.events["time"][index]) % (7 * 86400)) / 3600
    week = batch["ctx/hour_of_week"].reshape(64)
    np.testing.assert_allclose(week, (hours - 4 * 24) % 168, atol=1e-2)


def test_requests_may_bring_a_profile(data):
    assembler = assembler_of(data)
    rows = assembler.event_rows(np.arange(8), labels=False)
    column = data.schema.user_categorical[0].name
    given = replace(rows, profile={column: np.full(8, 2, np.int32)})
    none = [np.zeros(0, np.int32)]
    shape = assembler.shape_of(rows, none, (1, 1))
    batch = assembler.batch(given, none, shape, train=False)
    assert (batch[f"u_cat/{column}"] == 2).all()
    assert "cand" not in batch, "no candidates outside training"
