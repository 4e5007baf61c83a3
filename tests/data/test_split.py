from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig
from mtl_jax.data.split import split_events, split_frame

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


N = 1000
MANY = np.arange(N)
USERS = MANY % 37
CLICK = (MANY % 10 == 0).astype(float)


def many(config: DataConfig) -> np.ndarray:
    return split_events(USERS, MANY + 1, MANY, config, labels={"click": CLICK}).part


def test_a_ratio_is_drawn_by_its_seed() -> None:
    config = DataConfig(split="ratio", valid_fraction=0.2, test_fraction=0.1)
    part = many(config)
    assert np.bincount(part).tolist() == [700, 200, 100]
    assert np.array_equal(part, many(config))
    assert not np.array_equal(part, many(replace(config, split_seed=1)))
    assert abs(MANY[part == 1].mean() - MANY[part == 0].mean()) < 60  # whatever their time


def test_a_stratified_ratio_keeps_the_label_s_share() -> None:
    config = DataConfig(split="ratio", valid_fraction=0.2, test_fraction=0.1, stratify="click")
    part = many(config)
    assert [CLICK[part == code].sum() for code in (0, 1, 2)] == [70, 20, 10]
    assert [CLICK[many(replace(config, stratify="")) == code].sum() for code in (1, 2)] != [20, 10]


def test_folds_of_rows_cover_every_row_once() -> None:
    folds = [many(DataConfig(split="kfold", folds=4, fold=k)) for k in range(4)]
    assert np.array_equal(sum(folds), np.ones(N))
    assert [int(f.sum()) for f in folds] == [250] * 4


def test_folds_of_users_keep_a_user_s_rows_together() -> None:
    folds = [many(DataConfig(split="kfold", folds=4, fold=k, fold_by="user")) for k in range(4)]
    assert np.array_equal(sum(folds), np.ones(N))
    for fold in folds:
        assert not set(USERS[fold == 1]) & set(USERS[fold == 0])
        assert len(set(USERS[fold == 1])) in (9, 10)


def test_rolling_folds_train_on_what_lies_before() -> None:
    for k in range(4):
        part = many(DataConfig(split="rolling", folds=4, fold=k))
        assert np.bincount(part, minlength=4).tolist() == [200 * (k + 1), 200, 0, 600 - 200 * k]
        assert np.all(np.diff(part) >= 0)


@pytest.mark.parametrize(
    "config",
    [DataConfig(split="ratio"), DataConfig(split="rolling"), DataConfig(split="kfold", fold=2)],
    ids=lambda c: c.split,
)
def test_a_written_split_is_read_again(config: DataConfig, tmp_path: Path) -> None:
    split = split_events(USERS, MANY + 1, MANY[::-1], config)
    path = tmp_path / "split.parquet"
    split_frame(MANY[::-1], split.part).write_parquet(path)
    again = split_events(
        USERS, MANY + 1, MANY[::-1], DataConfig(split="file", split_file=str(path))
    )
    assert np.array_equal(again.part, split.part)
    assert again.digest == split.digest
    assert again.drawn


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"row": [0, 1], "part": ["train", "valid"]}, "row 2 of the source"),
        ({"row": list(range(N)), "part": ["train"] * 7 + ["val"] * (N - 7)}, "row 8, column part"),
        ({"row": [0, 0], "part": ["train", "valid"]}, "distinct"),
        ({"row": ["0"], "part": ["train"]}, "int64"),
        ({"line": [0]}, "it must have a column row"),
    ],
)
def test_unfit_split_files(frame: dict[str, list[object]], message: str, tmp_path: Path) -> None:
    path = tmp_path / "split.parquet"
    pl.DataFrame(frame).write_parquet(path)
    with pytest.raises(UserError, match=message):
        many(DataConfig(split="file", split_file=str(path)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(split="kfold", folds=1), "at least 2 folds"),
        (DataConfig(split="rolling", fold=5), "from 0 to folds - 1"),
        (DataConfig(split="ratio", stratify="clicks"), "no such label"),
        (DataConfig(split="ratio", valid_fraction=0.0), "must be positive"),
        (DataConfig(split="file", split_file="nowhere.parquet"), "there is no such file"),
    ],
)
def test_unfit_draws(config: DataConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        many(config)
