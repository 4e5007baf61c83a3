"""The ml-1m-collm folder: given splits and histories, the catalogue, faults, the real set."""

from pathlib import Path

import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.config import DataConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources import SOURCES
from mtl_jax.data.sources.collm import load_collm

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ml-1m-collm"


def part(rows):
    return pl.DataFrame(
        {
            "uid": [row[0] for row in rows],
            "iid": [row[1] for row in rows],
            "label": [row[2] for row in rows],
            "timestamp": [row[3] for row in rows],
            "his": [row[4] for row in rows],
            "title": ["" for _ in rows],
            "flag": [-1.0 for _ in rows],
        },
        schema_overrides={"his": pl.List(pl.Int64)},
    )


TRAIN = part(
    [
        (7, 1, 1, 100, [0]),
        (7, 2, 1, 110, [0, 1]),
        (7, 3, 0, 110, [0, 1, 2]),  # 2 was liked in this very second
        (8, 1, 1, 105, [0, 5]),  # 5 is in no file: kept
    ]
)
VALID = part([(7, 4, 1, 200, [0, 2, 1, 6]), (9, 1, 0, 210, [0])])  # 6 is liked later, at 300
TEST = part([(7, 6, 1, 300, [0, 0, 1, 2, 4])])
ITEMS = pl.DataFrame(
    {
        "iid": [0, 1, 2, 3],
        "title": ["", "Matrix, The (1999)", "Wings (Himmel, Der) (1987)", "Untitled"],
        "genres": ["", "Action|Sci-Fi", "", "Drama"],
        "year": ["", "1999", "", "1950"],
        "rated": ["", "R", "N/A", ""],
        "director": ["", "Lana Wachowski, Lilly Wachowski", "", "Someone"],
        "actors": ["", "Keanu Reeves", "", " "],
        "plot": ["", "A hacker learns.", "Angels\u00b3.", ""],
    }
)


def write(folder, **changes):
    files = {"train": TRAIN, "valid": VALID, "test": TEST, "items": ITEMS, **changes}
    for name, frame in files.items():
        if isinstance(frame, pl.DataFrame):
            frame.write_parquet(folder / f"{name}.parquet")
        elif frame is not None:
            (folder / f"{name}.parquet").write_bytes(frame)


def test_events_are_the_files_in_order_with_their_split(tmp_path):
    write(tmp_path)
    raw = check_tables(SOURCES["ml1m_collm"](tmp_path))
    assert raw.events.drop("history").to_dict(as_series=False) == {
        "user": ["7", "7", "7", "8", "7", "9", "7"],
        "item": ["1", "2", "3", "1", "4", "1", "6"],
        "time": [100, 110, 110, 105, 200, 210, 300],
        "like": [1, 1, 0, 1, 1, 0, 1],
        "split": [0, 0, 0, 0, 1, 1, 2],
    }
    assert raw.users["user"].to_list() == ["7", "8", "9"]
    assert raw.name == "ml1m_collm"
    assert [name for name, _ in raw.files] == [
        f"{name}.parquet" for name in ("train", "valid", "test", "items")
    ]


def test_histories_hold_no_padding(tmp_path):
    write(tmp_path)
    histories = load_collm(tmp_path).events["history"].to_list()
    wanted = [[], ["1"], ["1", "2"], ["5"], ["2", "1", "6"], [], ["1", "2", "4"]]
    assert histories == wanted


def test_what_is_not_earlier_is_left_out_when_prepared_and_counted(tmp_path):
    write(tmp_path)
    config = DataConfig(
        source="ml1m_collm",
        folder=str(tmp_path),
        prepared=str(tmp_path / "prepared"),
        template="{title}",
        split="given",
    )
    data = open_prepared(prepare(config))
    e, items = data.events, data.vocabulary("items").values
    found = [
        [items[i] for i in data.history["item"][start:stop]]
        for start, stop in zip(e["hist_start"], e["hist_stop"], strict=True)
    ]
    # in the order of time; items 4, 5 and 6 are in no catalogue
    assert found == [[], [], ["1"], ["1"], ["2", "1"], [], ["1", "2"]]
    assert "1 given history entries not before their row" in " ".join(
        data.manifest["report"]["notes"]
    )


def test_items_are_readable_and_blanks_are_missing(tmp_path):
    write(tmp_path)
    items = load_collm(tmp_path).items
    assert items.to_dict(as_series=False) == {
        "item": ["1", "2", "3"],
        "title": ["The Matrix", "Wings (Der Himmel)", "Untitled"],
        "year": ["1999", "1987", "1950"],
        "decade": ["1990s", "1980s", "1950s"],
        "period": ["1999", "1987", "1950-1954"],
        "release_year": [1999.0, 1987.0, 1950.0],
        "genres": [["Action", "Sci-Fi"], [], ["Drama"]],
        "genre": ["Action", None, "Drama"],
        "director": ["Lana Wachowski", None, "Someone"],
        "directors": ["Lana Wachowski, Lilly Wachowski", None, "Someone"],
        "star": ["Keanu Reeves", None, None],
        "actors": ["Keanu Reeves", None, None],
        "rated": ["R", None, None],
        "plot": ["A hacker learns.", "Angels\u00b3.", None],
    }


def test_without_the_test_part(tmp_path):
    write(tmp_path, test=None)
    raw = load_collm(tmp_path)
    assert raw.events["split"].to_list() == [0, 0, 0, 0, 1, 1]
    assert raw.events["history"][4].to_list() == ["2", "1", "6"]
    assert "test.parquet" not in dict(raw.files)


FAULTS = [
    ({"valid": None}, r"valid\.parquet: no such file.*holds items\.parquet, test\.parquet"),
    ({"items": None}, r"items\.parquet: no such file"),
    ({"train": b""}, r"train\.parquet: the file is empty"),
    ({"train": b"PAR1 broken"}, r"train\.parquet: cannot be read as parquet"),
    ({"valid": VALID.head(0)}, r"valid\.parquet: the file has no rows"),
    ({"train": TRAIN.drop("his")}, r"train\.parquet: column his is missing; .*found: uid, iid"),
    ({"items": ITEMS.drop("plot")}, r"items\.parquet: column plot is missing"),
    (
        {"test": TEST.with_columns(iid=pl.lit("six"))},
        r"test\.parquet, row 1, column iid: 'six' is not Int64",
    ),
    (
        {"valid": VALID.with_columns(label=pl.Series(["1", "like"]))},
        r"valid\.parquet, row 2, column label: 'like' is not Float64",
    ),
    (
        {"valid": VALID.with_columns(timestamp=pl.Series([1, None]))},
        r"valid\.parquet, row 2, column timestamp: the value is missing",
    ),
    ({"train": TRAIN.with_columns(his=pl.lit("1,2"))}, "column his: the file holds String, List"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), FAULTS)
def test_faults_are_named(tmp_path, changes, says):
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=says):
        load_collm(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ml-1m-collm")
def test_the_real_set():
    raw = check_tables(load_collm(REAL))
    parts = raw.events["split"].value_counts().sort("split")["count"].to_list()
    assert parts[:2] == [33_891, 10_401]
    assert raw.items.height == 3255
    assert raw.items["item"].n_unique() == 3255
    assert set(raw.events["item"]) <= set(raw.items["item"])
    assert raw.items.filter(item="1")["title"].item() == "The Shawshank Redemption"
    assert raw.items["plot"].null_count() / 3255 < 0.013
