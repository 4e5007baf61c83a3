"""Batches by hand: packed texts, token states, histories as text."""

import numpy as np
import pytest

from mtl_jax.data.assemble import TextSource
from mtl_jax.data.plan import spread
from worlds import assembler_of, world_data

NONE = [np.zeros(0, np.int32)]


@pytest.fixture(scope="module")
def data(shared_folder):
    return world_data(shared_folder)


@pytest.fixture(scope="module")
def texts(data):
    """Made-up tokens: text i holds the numbers 100 i, 100 i + 1, ... ; item 0 has none."""
    n = data.schema.n_items
    lengths = np.where(np.arange(n) > 0, 2 + np.arange(n) % 5, 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.concatenate([100 * i + np.arange(k) for i, k in enumerate(lengths)])
    return tokens.astype(np.int32), offsets.astype(np.int64)


def build(data, source, rows=8, parts=(1, 1), **options):
    assembler = assembler_of(data, text=source, **options)
    found = assembler.event_rows(np.arange(rows) * 7)
    none = NONE * (parts[0] * parts[1])
    shape = spread(assembler.shape_of(found, none, parts), parts[1])
    return found, shape, assembler.batch(found, none, shape, parts)


def test_each_item_of_the_table_has_its_text_once(data, texts):
    tokens, offsets = texts
    _, shape, batch = build(data, TextSource(None, tokens, offsets, length=16))
    owner = batch["text/owner"][0, 0]
    ids = batch["items/id"][0, 0]
    assert shape.packed == len(owner)
    for u, item in enumerate(ids):
        own = batch["text/ids"][0, 0][owner == u]
        np.testing.assert_array_equal(own, tokens[offsets[item] : offsets[item + 1]], str(u))
        place = batch["text/positions"][0, 0][owner == u]
        np.testing.assert_array_equal(place, np.arange(len(own)))
    assert set(owner.ravel()) <= {*range(1, len(ids)), shape.table}
    assert (batch["text/segments"][0, 0][owner == shape.table] == 0).all()


def test_token_states_are_those_of_the_tokens(data, texts):
    tokens, offsets = texts
    states = np.stack([tokens, -tokens], -1).astype(np.float32)
    source = TextSource(None, tokens, offsets, states, 16)
    _, shape, batch = build(data, source, parts=(2, 2))
    real = batch["text/owner"] < shape.table
    np.testing.assert_array_equal(batch["text/states"][..., 0][real], batch["text/ids"][real])
    np.testing.assert_array_equal(batch["text/states"][..., 1][real], -batch["text/ids"][real])
    assert (batch["text/states"][~real] == 0).all()
    assert (batch["text/ids"][real] > 0).any()


def test_pooled_vectors_are_those_of_the_items(data):
    vectors = np.arange(data.schema.n_items * 2, dtype=np.float32).reshape(-1, 2)
    _, shape, batch = build(data, TextSource(vectors=vectors))
    np.testing.assert_array_equal(batch["text/vectors"], vectors[batch["items/id"]])
    assert shape.packed == 0
    assert not [k for k in batch if k.startswith("text/") and k != "text/vectors"]


def test_the_history_as_text_starts_with_the_latest_and_has_one_cls(data, texts):
    tokens, offsets = texts
    rows, _, batch = build(data, TextSource(None, tokens, offsets, None, 16, 9), rows=200)
    ids, mask = batch["history_text/ids"][0, 0], batch["history_text/mask"][0, 0]
    assert ids.shape == (200, 9)
    some = rows.history[:, 1] > 0
    assert some.any()
    for r in range(200):
        items = rows.history[r][rows.history[r] > 0]
        parts = [tokens[offsets[i] : offsets[i + 1]] for i in items]
        whole = [*parts[0], *(t for p in parts[1:] for t in p[1:])][:9] if parts else []
        np.testing.assert_array_equal(ids[r][mask[r] > 0], whole)
        assert mask[r].sum() == len(whole)


def test_ids_of_cold_items_and_users_are_flagged(data):
    rows, _, batch = build(data, TextSource(), rows=200)
    warm = np.asarray(data.items["warm"])
    np.testing.assert_array_equal(batch["items/warm"], warm[batch["items/id"]])
    np.testing.assert_array_equal(
        batch["u_warm"].ravel(), np.asarray(data.users["warm"])[rows.user]
    )
    assert batch["items/warm"][0, 0, 0] == 0
