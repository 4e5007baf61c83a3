"""Two streams are told apart by what their batches depend on, and by nothing else."""

from dataclasses import replace

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.pipeline import TrainStream, rows_of
from mtl_jax.train.fingerprint import check_same, fingerprint, with_recorded_shards
from worlds import assembler_of, world_data


@pytest.fixture(scope="module")
def stream(shared_folder):
    assembler = assembler_of(world_data(shared_folder))
    return TrainStream(assembler, rows_of(assembler, "train"), seed=0, shards=2)


def meta(stream, **config):
    return {"config": config, "data": "d", "pipeline": fingerprint(stream)}


def test_the_same_stream_made_again_is_the_same(stream, shared_folder, tmp_path):
    assembler = assembler_of(world_data(shared_folder))
    again = TrainStream(assembler, rows_of(assembler, "train"), seed=0, shards=2)
    check_same(tmp_path, meta(stream), meta(again))


def test_what_changed_is_named(stream, tmp_path):
    data = stream.assembler.data

    def with_batch(**changes):
        return replace(stream, assembler=assembler_of(data, **changes))

    for other, message in (
        (replace(stream, seed=7), "seed was 0, is 7"),
        (with_batch(workers=3), "batch.workers was 1, is 3"),
        (with_batch(history=5), "batch.history was 4, is 5"),
        (with_batch(size=32), "batch.size was 64, is 32"),
        (replace(stream, shards=4), "batch.shards was 2, is 4"),
        (replace(stream, index=stream.index[:-1]), "rows was"),
    ):
        with pytest.raises(UserError, match=f"another pipeline .*{message}"):
            check_same(tmp_path, meta(stream), meta(other))
    told = {**meta(stream), "data": "other"}
    with pytest.raises(UserError, match=r"another data \(it was d, is other\)"):
        check_same(tmp_path, meta(stream), told)


def test_a_change_of_code_that_changes_batches_is_noticed(stream, tmp_path, monkeypatch):
    old, plain = meta(stream), TrainStream.rows
    monkeypatch.setattr(TrainStream, "rows", lambda self, step: plain(self, step)[::-1])
    with pytest.raises(UserError, match=r"another pipeline \(first_batch was"):
        check_same(tmp_path, old, meta(replace(stream)))


def test_devices_are_no_part_of_a_run(stream, tmp_path):
    old = meta(stream, train={"mesh": 2, "seed": 1}, batch={"shards": 2})
    check_same(tmp_path, old, meta(stream, train={"mesh": 0, "seed": 1}, batch={"shards": 0}))
    with pytest.raises(UserError, match=r"another config \(train\.seed was 1, is 2\)"):
        check_same(tmp_path, old, meta(stream, train={"mesh": 2, "seed": 2}, batch={"shards": 2}))


def test_shards_stay_what_they_were_or_the_devices_are_refused(stream):
    told = meta(replace(stream, shards=4))
    for devices in (1, 2, 4):
        assert with_recorded_shards(replace(stream, shards=devices), told, devices).shards == 4
    with pytest.raises(UserError, match=r"4 data shards.*8 devices.*train\.mesh=4"):
        with_recorded_shards(replace(stream, shards=8), told, 8)
