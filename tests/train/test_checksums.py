"""Flipped bits in every file of a checkpoint: noticed, told, and the step before taken."""

import json
import random
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint._src.metadata.checkpoint import _MetadataStoreImpl as MetadataFile

from mtl_jax.core.errors import UserError
from mtl_jax.train import checksums
from mtl_jax.train.checkpoint import Checkpoints

TRIES = 40
STATE = {"w": np.arange(600, dtype=np.float32).reshape(20, 30), "n": np.int32(4)}
ABSTRACT = jax.eval_shape(lambda: {k: jnp.asarray(v) for k, v in STATE.items()})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 and 2."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            state = {k: jnp.asarray(v) + step for k, v in STATE.items()}
            checkpoints.save(step, state, {"told": step}, best=-1)
            checkpoints.wait()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def flip(path, rng):
    """Turn over one bit of a file."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def test_every_flipped_bit_is_noticed_and_the_step_before_is_taken(saved, tmp_path):
    rng, noticed, previous = random.Random(0), 0, 0
    names = files(saved / "checkpoints" / "2")
    picked = [names[n % len(names)] for n in range(TRIES)]  # each file, then again
    for n, path in enumerate(picked):
        run = shutil.copytree(saved, tmp_path / str(n))
        flip(run / path.relative_to(saved), rng)
        with Checkpoints(run) as checkpoints:
            noticed += list(checkpoints.damaged) == [2]
            assert checkpoints.latest() == 1
            found = checkpoints.restore(1, ABSTRACT)
            previous += np.array_equal(found["w"], STATE["w"] + 1)
        shutil.rmtree(run)
    print(f"flipped bits: {TRIES} tried in {len(names)} files, {noticed} noticed, "
          f"{previous} times the step before was taken")  # fmt: skip
    assert noticed == previous == TRIES


def test_what_is_whole_is_not_called_damaged(copy):
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.damaged == {}
        assert checkpoints.steps() == [1, 2]
    for step in ("1", "2"):
        told = json.loads((copy / "checkpoints" / step / checksums.NAME).read_text())
        here = {
            p.relative_to(copy / "checkpoints" / step).as_posix()
            for p in (copy / "checkpoints" / step).rglob("*")
            if p.is_file()
        }
        assert set(told) == here - {checksums.NAME}, "every file has its checksum"


def test_metadata_that_orbax_writes_late_is_waited_for(tmp_path, monkeypatch):
    """It does so in a thread of its own; a checksum taken before would call a step damaged."""
    write = MetadataFile.write

    def late(self, *args):
        time.sleep(0.3)
        write(self, *args)

    monkeypatch.setattr(MetadataFile, "write", late)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {k: jnp.asarray(v) for k, v in STATE.items()}, {}, best=-1)
        checkpoints.wait()
    assert checksums.damage(tmp_path / "checkpoints" / "1") is None


@pytest.mark.parametrize("what", ["removed", "added", "checksums removed", "cut short"])
def test_files_that_are_missing_or_new_or_short_are_noticed(copy, what):
    step = copy / "checkpoints" / "2"
    victim = max(files(step / "state"), key=lambda p: p.stat().st_size)
    if what == "removed":
        victim.unlink()
    elif what == "added":
        (step / "state" / "more").write_text("x")
    elif what == "checksums removed":
        (step / checksums.NAME).unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    with Checkpoints(copy) as checkpoints:
        assert list(checkpoints.damaged) == [2]


def test_the_damaged_step_is_moved_aside_and_can_be_saved_again(copy):
    flip(files(copy / "checkpoints" / "2" / "state")[0], random.Random(0))
    with Checkpoints(copy) as checkpoints:
        assert (copy / "damaged" / "2").is_dir()
        checkpoints.save(2, {k: jnp.asarray(v) for k, v in STATE.items()}, {"told": 9}, best=-1)
        checkpoints.wait()
    with Checkpoints(copy) as checkpoints:
        assert (checkpoints.damaged, checkpoints.steps()) == ({}, [1, 2])
        assert checkpoints.meta(2) == {"told": 9}


def test_a_reader_leaves_everything_where_it_is(copy):
    flip(files(copy / "checkpoints" / "2" / "state")[0], random.Random(0))
    (copy / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()  # as of a training that is saving
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    with Checkpoints(copy, owner=False) as checkpoints:
        assert (list(checkpoints.damaged), checkpoints.steps()) == ([2], [1])
        assert checkpoints.restore(1, ABSTRACT)["n"] == 5
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before


def test_where_nothing_is_whole_a_person_is_asked(copy):
    for step in ("1", "2"):
        flip(files(copy / "checkpoints" / step / "state")[0], random.Random(0))
    for _ in range(2):  # nothing is moved, so that a second start asks again
        with pytest.raises(UserError, match=r"no checkpoint is whole \(.*state.*train again"):
            Checkpoints(copy)


def test_what_unfinished_saves_leave_is_removed_and_a_replaced_step_put_back(copy):
    folder = copy / "checkpoints"
    (folder / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (folder / "2").rename(folder / "2.replaced")  # killed while step 2 was written anew
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        assert checkpoints.meta(2) == {"told": 2}
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
