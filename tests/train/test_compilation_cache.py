"""Entries of the compilation cache: broken ones go, whole ones stay and are not read twice."""

import json
import threading
import zlib

import pytest
from filelock import FileLock

from mtl_jax.train import compilation_cache
from mtl_jax.train.compilation_cache import SEEN, default_folder, mend


def entry(folder, name, data=None, time=True):
    path = folder / f"jit_{name}-cache"
    path.write_bytes(zlib.compress(name.encode() * 1000) if data is None else data)
    if time:
        (folder / f"jit_{name}-atime").write_bytes(bytes(8))
    return path


def test_parts_of_entries_are_removed_and_the_rest_stays(tmp_path):
    good, cut, empty = (
        entry(tmp_path, "good"),
        entry(tmp_path, "cut"),
        entry(tmp_path, "empty", b""),
    )
    cut.write_bytes(good.read_bytes()[:-5])
    assert sorted(mend(tmp_path)) == [cut.name, empty.name]
    assert good.exists()
    assert not cut.exists()
    assert not empty.exists()
    assert mend(tmp_path) == []


def test_an_entry_without_its_time_gets_one(tmp_path):
    path = entry(tmp_path, "lonely", time=False)
    half = entry(tmp_path, "half")
    (tmp_path / "jit_half-atime").write_bytes(b"abc")
    assert mend(tmp_path) == []
    assert path.exists()
    assert half.exists()
    for name in ("lonely", "half"):
        assert len((tmp_path / f"jit_{name}-atime").read_bytes()) == 8


def test_an_entry_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path, read = entry(tmp_path, "good"), []
    whole = compilation_cache.whole
    monkeypatch.setattr(compilation_cache, "whole", lambda p: read.append(p.name) or whole(p))
    mend(tmp_path)
    mend(tmp_path)
    assert read == [path.name]
    path.write_bytes(path.read_bytes()[:10])
    assert mend(tmp_path) == [path.name]
    (tmp_path / SEEN).write_text('{"jit')  # a start that was killed
    again = entry(tmp_path, "good")
    assert mend(tmp_path) == []
    assert list(json.loads((tmp_path / SEEN).read_text())) == [again.name]


def test_an_entry_that_is_being_written_is_waited_for(tmp_path):
    path = entry(tmp_path, "new")
    data = path.read_bytes()
    path.write_bytes(data[:10])
    with FileLock(tmp_path / ".lockfile"):
        found = []
        thread = threading.Thread(target=lambda: found.append(mend(tmp_path)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        path.write_bytes(data)
    thread.join()
    assert found == [[]]
    assert path.read_bytes() == data


def test_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "mtl_jax" / "xla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "mtl_jax" / "xla"


def sizes(folder):
    return {p.name: p.stat().st_size for p in folder.glob("*-cache")}


def trained(zygote, tiny, workdir, folder):
    process = zygote.train(workdir, tiny.data, flags=[f"--compilation_cache={folder}"])
    assert process.wait() == 0, process.output()[-3000:]
    return process


def test_a_training_is_bit_equal_from_the_cache_and_writes_what_was_broken_anew(
    zygote, tiny, tmp_path
):
    """The first run compiles, the second loads all but one entry, of which only a part was left."""
    folder = tmp_path / "compiled"
    digests = []
    for name in ("cold", "warm"):
        process = trained(zygote, tiny, tmp_path / name, folder)
        digests.append(next(e["state"] for e in process.events() if e["what"] == "trained"))
        if name == "cold":
            filled = sizes(folder)
            (step,) = folder.glob("jit_train_step-*-cache")
            step.write_bytes(step.read_bytes()[:1000])
    assert digests == [tiny.state] * 2
    assert f"removed a broken entry of the compilation cache: {step}" in process.output()
    assert "persistent compilation cache" not in process.output(), "JAX met nothing to warn of"
    assert sizes(folder).keys() == filled.keys()
    assert step.stat().st_size == pytest.approx(filled[step.name], rel=0.01)
