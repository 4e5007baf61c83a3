"""KuaiRand's files, small and made up, and the real ones where they are at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.kuairand import FLAGS, LABELS, NUMBERS, ONE_HOT, RANGES, load_kuairand

REAL = Path(__file__).parents[3] / "shared" / "data" / "kuairand-pure-late"
DAY = 86_400_000
START = 1_650_000_000_000  # ms
OUTCOMES = ("play_time_ms", "watch_ratio", "finish", "long_watch", "is_positive")


def log(day: int, users: list[int], offset: int = 0) -> pl.DataFrame:
    n = len(users)
    columns: dict[str, Any] = {
        "user_id": users,
        "video_id": [u % 3 for u in users],
        "date": [20220500 + day] * n,
        "time_ms": [START + day * DAY + offset + 60_000 * i for i in range(n)],
        "tab": [1, 4] * (n // 2) + [1] * (n % 2),
        **dict.fromkeys(OUTCOMES, [7] * n),
    }
    columns |= {column: [(i + k) % 2 for i in range(n)] for k, column in enumerate(LABELS.values())}
    return pl.DataFrame(columns)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log(1, [1, 2, 3]).write_parquet(tmp_path / "log_a.parquet")
    # two rows of day 2 come after the first of day 3
    late = log(2, [1, 2, 3, 4], offset=DAY - 120_000)
    pl.concat([late, log(3, [1, 2]), log(4, [3])]).write_parquet(tmp_path / "log_b.parquet")
    users = {
        "user_id": range(6),
        **{name: ["-124", "b", "b", "", "(0,10]", "b"] for name in (*FLAGS, *RANGES, *ONE_HOT)},
        **{name: [0, 1, -1, 3, 4, 5] for name in NUMBERS},
        "follow_user_num": range(6),
    }
    pl.DataFrame(users).write_csv(tmp_path / "user_features_pure.csv", quote_style="always")
    videos = {
        "video_id": range(4),
        **dict.fromkeys(("author_id", "music_id", "music_type"), range(4)),
        **dict.fromkeys(("video_type", "upload_dt", "upload_type"), ["x"] * 4),
        "tag": ["1,2", "3", None, "2"],
        "video_duration": [1000.0, None, 5000.0, 1.0],
        **dict.fromkeys(("server_width", "server_height"), [720.0] * 4),
    }
    pl.DataFrame(videos).write_csv(tmp_path / "video_features_basic_pure.csv")
    seen = {
        "user_id": [1, 2, 3],
        "history_len": [3, 1, 1],
        "last_time_ms": [START, START, START + 2 * DAY],  # user 3's reaches into the log
        "watch_seq": [[2, 3, 2], [3], [3]],
        "like_seq": [[3], [], [3]],
        "long_watch_seq": [[2], [], [3]],
    }
    pl.DataFrame(seen).write_parquet(tmp_path / "user_history_until_20220424.parquet")
    return tmp_path


def test_parts_are_days(folder: Path) -> None:
    raw = load_kuairand(folder, 20220503)
    assert raw.events["split"].to_list() == [0] * 5 + [1] * 2 + [2]
    assert [label.name for label in raw.columns.labels] == list(LABELS)
    assert raw.events["click"].to_list()[:3] == [0.0, 1.0, 0.0]
    assert raw.events["long_view"].to_list()[:3] == [1.0, 0.0, 1.0]
    assert raw.events["tab"].to_list()[:3] == ["1", "4", "1"]
    assert raw.events["time"][0] == (START + DAY) // 1000


def test_no_outcome_and_no_follow_number_is_a_column(folder: Path) -> None:
    raw = load_kuairand(folder, 20220503)
    everywhere = {*raw.events.columns, *raw.items.columns, *raw.users.columns}
    assert not everywhere & {*OUTCOMES, "follow_user_num"}


def test_training_rows_after_a_valid_one_are_history_alone(folder: Path) -> None:
    raw = load_kuairand(folder, 20220503)
    valid = raw.events.filter(pl.col("split") == 1)["time"].min()
    assert raw.events.filter(pl.col("split") == 0)["time"].max() < valid  # type: ignore[operator]
    assert raw.earlier is not None
    moved = raw.earlier.filter(pl.col("time") >= valid)
    assert moved["user"].to_list() == ["3", "4"]
    assert load_kuairand(folder, 20220504).events.height == 10


def test_what_was_watched_before_the_log(folder: Path) -> None:
    raw = load_kuairand(folder, 20220503)
    assert raw.earlier is not None
    before = raw.earlier.filter(pl.col("time") <= START // 1000)
    assert before.select("user", "item").rows() == [("1", "2"), ("1", "3"), ("1", "2"), ("2", "3")]
    assert before["long_view"].to_list() == [1.0, 0.0, 1.0, 0.0]
    assert before["like"].to_list() == [0.0, 1.0, 0.0, 0.0]
    assert before["click"].null_count() == 4
    assert "3" not in before["user"].to_list()  # what user 3 saw may be later than a row
    users = {row[0]: row[1:] for row in raw.users.select("user", "log_seen", "long_share").rows()}
    assert users["1"][0] == pytest.approx(np.log1p(3))
    assert users["1"][1] == pytest.approx((2 + 5 * 0.5) / (3 + 5))
    assert users["3"] == (None, None)
    items = dict(raw.items.select("item", "log_seen").rows())
    assert items == {"0": None, "1": None, "2": pytest.approx(np.log(3)), "3": items["2"]}


def test_columns_of_users_and_videos(folder: Path) -> None:
    raw = load_kuairand(folder, 20220503)
    assert raw.users["is_live_streamer"].to_list() == [None, "b", "b", None, "(0,10]", "b"]
    assert raw.users["log_fans_user_num"].to_list() == np.log1p([0, 1, 0, 3, 4, 5]).tolist()
    assert raw.items["tags"].to_list() == [["1", "2"], ["3"], [], ["2"]]
    assert raw.items["category"].to_list() == ["1", "3", None, "2"]
    assert raw.items["log_duration"][1] is None


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def no_logs(folder: Path) -> None:
    for path in folder.glob("log_*"):
        path.unlink()


def bad_number(folder: Path) -> None:
    path = folder / "video_features_basic_pure.csv"
    path.write_text(path.read_text().replace("1000.0", "long"))


def no_column(folder: Path) -> None:
    log(1, [1]).drop("is_like").write_parquet(folder / "log_c.parquet")


@pytest.mark.parametrize(
    ("change", "day", "message"),
    [
        (no_logs, 20220503, r"log_\*.parquet: no such file"),
        (lambda f: drop(f, "user_features_pure.csv"), 20220503, "user_features_pure.csv"),
        (bad_number, 20220503, "row 1 .line 2., column video_duration: 'long'"),
        (no_column, 20220503, "log_c.parquet: column is_like is missing"),
        (lambda f: None, 20220501, "not the first"),
        (lambda f: None, 20220601, "data.valid_day=20220601"),
    ],
)
def test_unfit_folders(
    folder: Path, change: Callable[[Path], None], day: int, message: str
) -> None:
    change(folder)
    with pytest.raises(UserError, match=message):
        load_kuairand(folder, day)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_the_real_files() -> None:
    raw = load_kuairand(REAL, 20220505)
    valid = raw.events.filter(pl.col("split") == 1)
    assert valid.height == 13_390
    assert valid["click"].sum() == 5_779
    assert valid["like"].sum() == 188
    assert raw.events.filter(pl.col("split") == 0).height + 156 == 185_061 - 13_390
    assert raw.earlier is not None
    assert raw.earlier["user"].n_unique() > 25_000
