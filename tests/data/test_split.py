from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.split import split_events

TIME = np.array([10, 20, 20, 20, 30, 40, 50, 60, 70, 80])
ROW = np.arange(10)
USER = np.array([1, 1, 2, 2, 1, 2, 3, 3, 1, 2])


def parts(config: DataConfig, given_parts: np.ndarray | None = None) -> list[int]:
    return split_events(USER, TIME, ROW, config, given_parts).part.tolist()


def test_fractions_of_rows() -> None:
    config = DataConfig(valid_fraction=0.2, test_fraction=0.1)
    assert parts(config) == [0] * 7 + [1, 1, 2]


def test_fractions_of_time() -> None:
    config = DataConfig(valid_fraction=0.25, test_fraction=0.25, fraction_of="time")
    split = split_events(USER, TIME, ROW, config)
    assert (split.valid_from, split.test_from) == (46, 64)
    assert split.part.tolist() == [0] * 6 + [1, 1, 2, 2]


def test_a_cut_never_falls_inside_a_second() -> None:
    config = DataConfig(valid_fraction=0.3, test_fraction=0.5)  # row 2 is one of three at time 20
    assert parts(config) == [0, 1, 1, 1, 1] + [2] * 5


def test_given_cut_times() -> None:
    assert parts(DataConfig(valid_from=30, test_from=60)) == [0] * 4 + [1] * 3 + [2] * 3
    assert parts(DataConfig(valid_from=30)) == [0] * 4 + [1] * 6


def test_leave_last_out() -> None:
    config = DataConfig(split="leave_last_out")
    assert parts(config) == [0, 0, 0, 0, 1, 1, 0, 0, 2, 2]  # user 3 has two events: all train


def test_leave_last_out_breaks_ties_by_source_row() -> None:
    user, time = np.array([1, 1, 1]), np.array([5, 5, 5])
    split = split_events(user, time, np.array([7, 8, 9]), DataConfig(split="leave_last_out"))
    assert split.part.tolist() == [0, 1, 2]


def test_given_parts() -> None:
    wanted = np.array([0] * 5 + [1] * 5)
    assert parts(DataConfig(split="given"), wanted) == wanted.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "given"}, "gives no parts"),
        ({"valid_from": 90}, "leaves no valid rows"),
        ({"valid_from": 5}, "leaves no train rows"),
        ({"valid_from": 50, "test_from": 20}, "lies after"),
        ({"valid_fraction": 0.9, "test_fraction": 0.2}, "leave something to train on"),
        ({"valid_fraction": 0.0}, "must be positive"),
    ],
)
def test_impossible_splits_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_events(USER, TIME, ROW, replace(DataConfig(), **change))  # type: ignore[arg-type]


def test_the_digest_is_of_rows_and_parts() -> None:
    config = DataConfig(valid_fraction=0.2)
    first = split_events(USER, TIME, ROW, config).digest
    assert split_events(USER, TIME, ROW, config).digest == first
    assert split_events(USER, TIME, ROW[::-1], config).digest != first
    assert split_events(USER, TIME, ROW, DataConfig(valid_fraction=0.3)).digest != first


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=6, max_size=40),
    st.sampled_from(["rows", "time"]),
)
def test_time_parts_never_overlap(events: list[tuple[int, int]], of: str) -> None:
    time = np.sort(np.array([t for _, t in events]))
    config = DataConfig(valid_fraction=0.3, test_fraction=0.2, fraction_of=of)  # type: ignore[arg-type]
    try:
        split = split_events(np.array([u for u, _ in events]), time, np.arange(len(time)), config)
    except UserError:
        return
    ends = [time[split.part == code] for code in range(3)]
    assert ends[0].max() < ends[1].min()
    assert not len(ends[2]) or ends[1].max() < ends[2].min()
