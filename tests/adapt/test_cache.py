"""Frozen outputs: right, reused only when nothing that decides them changed, never half there."""

import multiprocessing
import os
import signal
from dataclasses import replace

import jax
import ml_dtypes
import numpy as np
import pytest

from mtl_jax.adapt import cache as cache_module
from mtl_jax.adapt import store
from mtl_jax.adapt.cache import pooled_vectors, token_states
from mtl_jax.adapt.encode import group_texts
from mtl_jax.adapt.progress import progress_bar
from mtl_jax.core.errors import UserError
from mtl_jax.nn.encoder import Encoder, EncoderConfig, init_params
from mtl_jax.nn.pooling import pool_rows

CONFIG = EncoderConfig(
    "roberta", 40, width=8, layers=2, heads=2, ffn=12, max_positions=80, pad_id=1,
    type_vocab=1, has_pooler=True, init_range=0.3,
)  # fmt: skip
LENGTHS = np.array([0, 5, 1, 70, 9, 12, 5])
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
TOKENS = np.random.default_rng(0).integers(2, 40, OFFSETS[-1]).astype(np.int32)


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(np.asarray, init_params(CONFIG, jax.random.key(0)))


@pytest.fixture(scope="module")
def alone(params):
    """Hidden states [7, 70, H] and mask, one text per row, and the states under layer 1."""
    ids = np.full((LENGTHS.size, 70), 1, np.int32)
    mask = np.arange(70) < LENGTHS[:, None]
    ids[mask] = TOKENS
    run = jax.jit(lambda n: Encoder(CONFIG).apply({"params": params}, ids, mask, stop_layer=n),
                  static_argnums=0)  # fmt: skip
    return np.asarray(run(2)), mask, np.asarray(run(1))


@pytest.fixture
def no_encoder(monkeypatch):
    """Where only keys and files matter."""

    def pooled(config, params, texts, *_):
        n = texts.lengths.size
        yield np.arange(n), np.ones((n, config.width), np.float32)

    def states(config, params, texts, *_):
        n = texts.tokens.size
        yield np.arange(n), np.ones((n, config.width), ml_dtypes.bfloat16), 1

    monkeypatch.setattr(cache_module, "encode_pooled", pooled)
    monkeypatch.setattr(cache_module, "encode_states", states)


@pytest.fixture
def count_builds(monkeypatch):
    built = []
    plain = store._write

    def counting(*args):
        built.append(args)
        return plain(*args)

    monkeypatch.setattr(store, "_write", counting)
    return built


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_vectors_are_those_of_each_text_alone(tmp_path, params, alone, pooling):
    vectors = pooled_vectors(tmp_path, CONFIG, params, TOKENS, OFFSETS, pooling, call_tokens=80)
    assert isinstance(vectors, np.memmap)
    assert vectors.dtype == np.float32
    expected = pool_rows(alone[0], alone[1], pooling, params["pooler"])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert not vectors[0].any()
    with pytest.raises(ValueError, match="read-only"):
        vectors[0] = 1


def test_states_are_those_of_each_text_alone_in_bfloat16(tmp_path, params, alone):
    states, offsets = token_states(tmp_path, CONFIG, params, TOKENS, OFFSETS, 1, call_tokens=80)
    assert isinstance(states, np.memmap)
    assert states.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(offsets, OFFSETS)
    np.testing.assert_allclose(states.astype(np.float32), alone[2][alone[1]], rtol=2**-8, atol=1e-5)


@pytest.mark.usefixtures("no_encoder")
def test_only_what_lies_below_the_cut_decides_the_states(tmp_path, params, count_builds):
    arguments = (TOKENS, OFFSETS, 1)
    token_states(tmp_path, CONFIG, params, *arguments)
    above = params | {"layer_1": jax.tree.map(lambda x: x + 1, params["layer_1"])}
    token_states(tmp_path, CONFIG, above, *arguments)
    assert len(count_builds) == 1
    below = params | {"layer_0": jax.tree.map(lambda x: x + 1, params["layer_0"])}
    token_states(tmp_path, CONFIG, below, *arguments)
    assert len(count_builds) == 2


@pytest.mark.usefixtures("no_encoder")
def test_it_is_reused_until_something_that_decides_changes(tmp_path, params, count_builds):
    def vectors(**change):
        given = {"config": CONFIG, "params": params, "tokens": TOKENS, "offsets": OFFSETS,
                 "pooling": "mean", "call_tokens": 80} | change  # fmt: skip
        return pooled_vectors(tmp_path, **given)

    first = vectors()
    np.testing.assert_array_equal(first, vectors())
    vectors(config=replace(CONFIG, hidden_dropout=0.5), tokens=TOKENS.astype(np.int64))
    vectors(params=params | {"pooler": jax.tree.map(lambda x: x + 1, params["pooler"])})
    assert len(count_builds) == 1
    swapped = TOKENS.copy()
    swapped[0] = 39 - swapped[0] // 2
    shifted = OFFSETS.copy()
    shifted[2] -= 1
    bias = jax.tree.map(lambda x: x, params)
    bias["layer_1"]["ffn_norm"]["bias"] = bias["layer_1"]["ffn_norm"]["bias"] + 1e-6
    changes = (
        {"tokens": swapped},
        {"offsets": shifted},
        {"params": bias},
        {"pooling": "cls"},
        {"tokenizer": "another"},
        {"config": replace(CONFIG, norm_eps=1e-5)},
    )
    for n, change in enumerate(changes, 2):
        vectors(**change)
        assert len(count_builds) == n, change


def damage(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[:-4])
    elif how == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
@pytest.mark.parametrize("file", ["vectors.npy", "manifest.json"])
@pytest.mark.usefixtures("no_encoder")
def test_a_damaged_cache_is_refused_and_not_read(tmp_path, params, how, file):
    arguments = (tmp_path, CONFIG, params, TOKENS, OFFSETS, "mean")
    pooled_vectors(*arguments)
    (folder,) = tmp_path.iterdir()
    damage(folder / file, how)
    with pytest.raises(UserError, match=f"{folder.name} is damaged .*delete it"):
        pooled_vectors(*arguments)


def test_a_failure_leaves_nothing(tmp_path, params, monkeypatch):
    def broken(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "encode_pooled", broken)
    with pytest.raises(KeyboardInterrupt):
        pooled_vectors(tmp_path, CONFIG, params, TOKENS, OFFSETS, "mean")
    assert list(tmp_path.iterdir()) == []


def _killed_while_building(folder):
    def build(arrays):
        arrays["x"][:] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    store.load_or_build(folder, "a", {"k": 1}, {"x": store.ArraySpec((3,), "float32")}, build)


def test_a_kill_while_writing_leaves_nothing_that_is_read(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_while_building, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [p.name.startswith(".building-") for p in tmp_path.iterdir()] == [True]
    specs = {"x": store.ArraySpec((3,), "float32")}
    found = store.load_or_build(tmp_path, "a", {"k": 1}, specs, lambda arrays: arrays["x"].fill(2))
    np.testing.assert_array_equal(found["x"], [2, 2, 2])
    assert len(list(tmp_path.iterdir())) == 1


def test_another_process_may_finish_first(tmp_path, monkeypatch):
    specs = {"x": store.ArraySpec((1,), "float32")}

    def build(arrays):
        if not list(tmp_path.glob("a-*")):  # the other process
            with monkeypatch.context() as patch:
                patch.setattr(store.os, "getpid", lambda: 1)
                store.load_or_build(tmp_path, "a", {}, specs, lambda x: x["x"].fill(7))
        arrays["x"][:] = 8

    assert store.load_or_build(tmp_path, "a", {}, specs, build)["x"][0] == 7
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_encoded_is_refused_before_anything_is_written(tmp_path, params):
    def refuse(match, tokens=TOKENS, offsets=OFFSETS, params=params, pooling="mean"):
        with pytest.raises(UserError, match=match):
            pooled_vectors(tmp_path / "c", CONFIG, params, tokens, offsets, pooling)

    refuse("outside the vocabulary", tokens=TOKENS + 30)
    refuse("text 0 has 102 tokens and the encoder 78 positions", offsets=np.array([0, 102]))
    refuse("belong to another tokens file", offsets=OFFSETS[:-1])
    refuse("every item is empty", tokens=TOKENS[:0], offsets=np.array([0, 0]))
    refuse("this encoder has none", params={"embeddings": {}}, pooling="pooler")
    with pytest.raises(UserError, match="cut_layer 3: the encoder has 2 layers"):
        token_states(tmp_path / "c", CONFIG, params, TOKENS, OFFSETS, 3)
    assert not (tmp_path / "c").exists()


def test_values_that_are_not_finite_are_not_kept(tmp_path, params):
    broken = params | {"layer_1": jax.tree.map(lambda x: x * np.nan, params["layer_1"])}
    with pytest.raises(UserError, match="not finite"):
        pooled_vectors(tmp_path, CONFIG, broken, TOKENS, OFFSETS, "mean")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_and_a_full_disk_are_user_errors(
    tmp_path, params, monkeypatch
):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written here"):
        pooled_vectors(tmp_path / "file", CONFIG, params, TOKENS, OFFSETS, "mean")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"are needed, 0\.0 are free"):
        pooled_vectors(tmp_path, CONFIG, params, TOKENS, OFFSETS, "mean")


def test_size_is_told_before_writing_and_progress_meanwhile(tmp_path, params, monkeypatch):
    lines, calls = [], []
    monkeypatch.setattr(store.logging, "info", lambda text, *args: lines.append(text % args))
    with progress_bar("encoding") as tell:

        def both(done, total):
            calls.append((done, total))
            tell(done, total)

        pooled_vectors(
            tmp_path, CONFIG, params, TOKENS, OFFSETS, "mean", progress=both, call_tokens=80
        )
    assert "vectors [7, 8] float32, 0.0 MB" in lines[0]
    assert calls[-1] == (7, 7)
    assert len(calls) > 1


def test_groups_have_at_most_two_shapes_and_hold_every_text_once():
    lengths = np.clip(np.random.default_rng(0).gamma(4, 6, 3000).astype(int), 0, 200)
    groups = group_texts(lengths, 2048)
    assert len({(g.shape, g.U) for g in groups}) <= 2
    held = np.sort(np.concatenate([g.which for g in groups]))
    np.testing.assert_array_equal(held, np.flatnonzero(lengths))
    assert lengths.sum() / sum(P * L for P, L in (g.shape for g in groups)) > 0.9


def test_token_types_are_part_of_the_key(tmp_path, params, no_encoder, count_builds):
    config = replace(CONFIG, type_vocab=2)
    types = np.arange(len(TOKENS)) % 2
    for given in (None, types, 1 - types, types, None):
        pooled_vectors(tmp_path, config, params, TOKENS, OFFSETS, "mean", types=given)
    assert len(count_builds) == 3
    with pytest.raises(UserError, match="token_type_ids"):
        pooled_vectors(tmp_path, config, params, TOKENS, OFFSETS, "mean", types=types + 1)
