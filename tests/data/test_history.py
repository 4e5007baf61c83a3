from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.data.history import (
    NEXT_ITEMS,
    EventColumns,
    Histories,
    given_histories,
    history_types,
    next_items,
    own_histories,
    type_codes,
    value_names,
)
from mtl_jax.data.schema import Columns, Label

COLUMNS = Columns(
    labels=(
        Label("like", "binary"),
        Label("share", "binary"),
        Label("buy", "binary"),
        Label("dwell", "value"),
        Label("rating", "value", 1.0, 5.0),
    ),
    positive="like",
    item_text=(),
    item_category="",
)


def events_of(rows: list[tuple[int, int, int, bool]]) -> EventColumns:
    """(user, item, time, positive), sorted by time."""
    rows = sorted(rows, key=lambda row: row[2])
    user, item, time, positive = (np.array(column) for column in zip(*rows, strict=True))
    types = (1 + item % 5).astype(np.int8)
    return EventColumns(user.astype(np.int32), item.astype(np.int32), time, types, positive)


def cut(histories: Histories, row: int) -> list[Any]:
    here = slice(histories.start[row], histories.stop[row])
    columns = (histories.item, histories.type, histories.time)
    return list(zip(*(column[here].tolist() for column in columns), strict=True))


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 6), st.booleans()),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_earlier_events_come_first_and_are_seen_from_their_time_on(
    rows: list[tuple[int, int, int, bool]], before: list[tuple[int, int, int, bool]]
) -> None:
    e, earlier = events_of(rows), events_of(before)
    found = own_histories(e, earlier)
    for i in range(len(e.user)):
        wanted = [
            (int(part.time[j]), k, j, int(part.item[j]), int(part.type[j]))
            for k, part in enumerate((earlier, e))
            for j in range(len(part.user))
            if part.positive[j] and part.user[j] == e.user[i] > 0 and part.item[j] > 0
            and part.time[j] < e.time[i]
        ]  # fmt: skip
        assert cut(found, i) == [(item, kind, at) for at, _, _, item, kind in sorted(wanted)]
        here = slice(found.start[i], found.stop[i])
        assert found.row[here].tolist() == [j if k else -1 for _, k, j, *_ in sorted(wanted)]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_own_histories_against_a_loop(rows: list[tuple[int, int, int, bool]]) -> None:
    e = events_of(rows)
    found = own_histories(e)
    for i in range(len(e.user)):
        wanted = [
            (e.item[j], e.type[j], e.time[j])
            for j in range(len(e.user))
            if e.user[j] == e.user[i] > 0
            and e.item[j] > 0
            and e.positive[j]
            and e.time[j] < e.time[i]
        ]
        assert cut(found, i) == wanted
    assert (e.item[found.row] == found.item).all()
    assert (e.time[found.row] == found.time).all()
    assert (np.diff(found.row[np.argsort(e.user[found.row], kind="stable")]) != 0).all()


@settings(max_examples=100, deadline=None)
@given(ROWS, st.randoms())
def test_next_items_against_a_loop(rows: list[tuple[int, int, int, bool]], random: Any) -> None:
    e = events_of(rows)
    part = np.array([random.randint(0, 2) for _ in rows])
    usable = np.array([random.random() < 0.8 for _ in rows])
    found = next_items(e, part, usable)
    for i in range(len(e.user)):
        wanted = [
            e.item[j]
            for j in range(len(e.user))
            if e.user[j] == e.user[i] > 0
            and e.item[j] > 0
            and e.positive[j]
            and usable[j]
            and e.time[j] > e.time[i]
            and (part[j] == 0 if part[i] == 0 else part[j] >= part[i])
        ][:NEXT_ITEMS]
        assert found[i].tolist() == wanted + [0] * (NEXT_ITEMS - len(wanted))


def test_ties_in_time_are_no_history() -> None:
    e = events_of([(1, 1, 5, True), (1, 2, 5, True), (1, 3, 6, True)])
    found = own_histories(e)
    assert [len(cut(found, row)) for row in range(3)] == [0, 0, 2]


def test_given_histories_drop_what_is_not_earlier() -> None:
    e = events_of([(1, 1, 5, True), (1, 2, 7, True), (1, 3, 7, True), (1, 4, 9, True)])
    #             row 1 (item 2, time 7): item 1 before it, 3 in the same second, 4 later, 9 not
    #             in the log at all, 0 unknown
    item = np.array([1, 9, 3, 4, 0, 2])
    found = given_histories(e, item, np.array([0, 5, 0, 1]), None)
    assert cut(found, 0) == cut(found, 2) == []
    assert cut(found, 1) == [(1, 2, 5), (9, 1, 0)]
    assert found.row.tolist() == [0, -1, 1]
    assert cut(found, 3) == [(2, 3, 7)]
    assert found.late == 2


def test_given_histories_with_times() -> None:
    e = events_of([(1, 1, 5, True), (1, 1, 8, True)])
    item, time = np.array([1, 2, 3]), np.array([7, 8, 0])
    found = given_histories(e, item, np.array([0, 3]), time)
    assert cut(found, 1) == [(1, 1, 7), (3, 1, 0)]
    assert found.late == 1


def test_the_latest_earlier_event_dates_an_entry() -> None:
    e = events_of([(1, 2, 3, True), (1, 2, 5, True), (2, 2, 6, True), (1, 3, 7, True)])
    found = given_histories(e, np.array([2]), np.array([0, 0, 0, 1]), None)
    assert cut(found, 3) == [(2, 3, 5)]
    assert found.row.tolist() == [1]


def test_type_codes() -> None:
    nan = np.nan
    labels = {
        "like": np.array([1, 1, 1, 1, 0]),
        "share": np.array([0, 1, nan, 1, 0]),
        "buy": np.array([0, 0, 1, 1, nan]),
        "dwell": np.zeros(5),
        "rating": np.array([nan, 1.0, 3.0, 5.0, nan]),
    }
    codes = type_codes(COLUMNS, labels)
    assert codes.dtype == np.int8
    assert codes.tolist() == [1, 1 + 1 + 4 * 1, 1 + 2 + 4 * 3, 1 + 3 + 4 * 5, 1]
    assert history_types(COLUMNS) == 1 + 6 * 4
    assert codes.max() < history_types(COLUMNS)
    assert value_names(COLUMNS) == ("dwell",)
