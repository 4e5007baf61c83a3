import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.core.errors import UserError
from mtl_jax.data.packing import pack, pack_tokens, row_length

lengths_lists = st.lists(st.integers(0, 16), max_size=60)


@settings(max_examples=60, deadline=None)
@given(lengths_lists)
def test_no_two_texts_share_a_place(lengths):
    lengths = np.array(lengths, np.int64)
    row_of, offset_of = pack(lengths, 16)
    taken = [
        (row, at)
        for row, start, n in zip(row_of, offset_of, lengths, strict=True)
        for at in range(start, start + n)
    ]
    assert len(set(taken)) == len(taken) == lengths.sum()
    assert all(at < 16 for _, at in taken)
    used = {row for row, _ in taken}
    assert used == set(range(len(used)))


def test_the_fullest_row_with_room_is_taken():
    # 9 and 8 open rows with 1 and 2 left; 2 fits the second exactly, 1 the first.
    row_of, offset_of = pack(np.array([1, 8, 2, 9]), 10)
    assert row_of.tolist() == [0, 1, 1, 0]
    assert offset_of.tolist() == [9, 0, 8, 0]


def one_by_one(lengths, L):
    """Best fit as it is defined: each text alone, of rows of a room the one opened last."""
    rooms, places = [], {}
    for text in sorted(range(len(lengths)), key=lambda t: -lengths[t]):
        if not lengths[text]:
            continue
        fits = [n for n, (room, _) in enumerate(rooms) if room >= lengths[text]]
        if not fits:
            rooms.append((L, -1))
            fits = [len(rooms) - 1]
        row = min(fits, key=lambda n: (rooms[n][0], -rooms[n][1]))
        places[text] = (row, L - rooms[row][0])
        rooms[row] = (rooms[row][0] - lengths[text], len(places))
    return [places.get(t, (0, 0)) for t in range(len(lengths))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=40), st.integers(12, 30))
def test_texts_of_one_length_are_placed_as_if_one_by_one(lengths, L):
    rows, offsets = pack(np.array(lengths, np.int64), L)
    assert list(zip(rows.tolist(), offsets.tolist(), strict=True)) == one_by_one(lengths, L)


def test_rows_are_nearly_full_and_the_answer_never_changes():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(4, 6, 5000).astype(int), 3, 128)
    row_of, offset_of = pack(lengths, 128)
    assert lengths.sum() / (128 * (row_of.max() + 1)) > 0.95
    again = pack(lengths.copy(), 128)
    np.testing.assert_array_equal(again, (row_of, offset_of))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.data())
def test_every_text_can_be_read_back(lengths, data):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.random.default_rng(0).integers(5, 99, offsets[-1]).astype(np.int32)
    which = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=12)), int)
    out = pack_tokens(tokens, offsets, which, 10, pad_id=1)
    assert all(x.dtype == np.int32 and x.shape == out["ids"].shape for x in out.values())
    for u, text in enumerate(which):
        mine = out["owner"] == u
        assert out["ids"][mine].tolist() == tokens[offsets[text] : offsets[text + 1]].tolist()
        assert out["positions"][mine].tolist() == list(range(lengths[text]))
        if mine.any():  # one row, one segment, next to one another
            places = np.argwhere(mine)
            assert len(set(places[:, 0])) == 1
            assert (np.diff(places[:, 1]) == 1).all()
            segment = out["segments"][mine]
            row = places[0, 0]
            assert (segment == segment[0]).all()
            assert segment[0] > 0
            assert (out["owner"][row][out["segments"][row] == segment[0]] == u).all()
    padding = out["owner"] == which.size
    assert (out["ids"][padding] == 1).all()
    assert not out["segments"][padding].any()
    assert not out["positions"][padding].any()


def test_segments_count_from_one_in_the_order_of_the_row():
    offsets = np.array([0, 2, 6, 9])
    out = pack_tokens(np.arange(9, dtype=np.int32), offsets, np.array([0, 1, 2]), 6, rows=2)
    assert out["segments"].tolist() == [[1, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0]]
    assert out["ids"].tolist() == [[2, 3, 4, 5, 0, 1], [6, 7, 8, 0, 0, 0]]


def test_planned_rows_are_all_there_and_padding_owns_the_table_size():
    out = pack_tokens(np.arange(4), np.array([0, 4]), np.array([0]), 8, rows=3, table=20)
    assert out["ids"].shape == (3, 8)
    assert out["owner"][1:].tolist() == [[20] * 8] * 2


def test_too_long_or_too_many_is_refused():
    offsets = np.array([0, 4, 11])
    tokens = np.arange(11)
    with pytest.raises(UserError, match="text 1 has 7 tokens and a row holds 6"):
        pack_tokens(tokens, offsets, np.array([0, 1]), 6)
    with pytest.raises(UserError, match="need 2 rows of 8 and 1 are planned"):
        pack_tokens(tokens, offsets, np.array([0, 1]), 8, rows=1)


def test_rows_are_as_short_as_texts_fill_them():
    rng = np.random.default_rng(0)
    titles = rng.integers(5, 30, 500)
    L = row_length(titles)
    used = pack(titles, L)[0].max() + 1
    assert L in (32, 64)
    assert titles.sum() / (used * L) >= 0.97
    assert row_length(np.full(100, 20)) == 64, "three of 20 fill 64 best of all up to 128"
    assert row_length(np.array([0, 128, 128])) == 128
    assert row_length(np.array([0, 0])) == 32, "no text at all"
