"""Amazon Scientific: positions as times, levels of categories, faults, the real set."""

import gzip
import json
from pathlib import Path

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources.scientific import load_scientific

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "amazon-scientific"

INTER = {"0": [0, 1, 2, 0], "1": [2, 1, 0]}
ITEM = {
    "0": {
        "title": "Tape &amp; glue.",
        "description": "",
        "brand": "",
        "categories": "Industrial & Scientific,Tapes, Adhesives & Sealants,Glues",
    },
    "1": {"title": "Bolt", "description": "Steel.", "brand": "X", "categories": ""},
    "2": {"title": "Nut", "description": "Brass.", "brand": "X", "categories": "Fasteners,Nuts"},
}


def write(folder, inter=INTER, item=ITEM):
    for name, value in (("inter", inter), ("item", item)):
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / f"Scientific.{name}.json.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_a_position_is_the_time(tmp_path):
    raw = check_tables(load_scientific(write(tmp_path)))
    assert raw.events.select("user", "item", "time").rows() == [
        ("0", "0", 1), ("0", "1", 2), ("0", "2", 3), ("0", "0", 4),
        ("1", "2", 1), ("1", "1", 2), ("1", "0", 3),
    ]  # fmt: skip
    assert raw.events["interaction"].unique().to_list() == [1.0]


def test_items_have_levels_without_the_first_of_all(tmp_path):
    items = load_scientific(write(tmp_path)).items
    assert items["title"].to_list() == ["Tape & glue.", "Bolt", "Nut"]
    assert items["brand"].to_list() == [None, "X", "X"]
    assert items["category"].to_list() == ["Tapes, Adhesives & Sealants", None, "Fasteners"]
    assert items["categories"].to_list() == [
        ["Tapes, Adhesives & Sealants", "Glues"], [], ["Fasteners", "Nuts"]
    ]  # fmt: skip


def test_the_last_item_is_test_and_histories_are_what_came_before(tmp_path):
    config = DataConfig(
        source="amazon_scientific",
        folder=str(write(tmp_path)),
        prepared=str(tmp_path / "prepared"),
        template="{title}",
        split="leave_last_out",
        statistics=StatisticsConfig(keys=(), history=False),
    )
    data = open_prepared(prepare(config))
    users, items = data.vocabulary("users").values, data.vocabulary("items").values
    e = data.events
    found = {
        (users[u], items[i]): (int(part), [items[k] for k in data.history["item"][a:b]])
        for u, i, part, a, b in zip(
            e["user"], e["item"], e["split"], e["hist_start"], e["hist_stop"], strict=True
        )
        if part
    }
    assert found == {
        ("0", "2"): (1, ["0", "1"]),
        ("0", "0"): (2, ["0", "1", "2"]),
        ("1", "1"): (1, ["2"]),
        ("1", "0"): (2, ["2", "1"]),
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inter": "{"}, r"Scientific\.inter\.json\.gz: no JSON"),
        ({"item": []}, r"item\.json\.gz: must be one JSON object that is not empty"),
        ({"inter": {"7": 3}}, r"inter\.json\.gz: user '7': 3 is no list of items"),
        ({"inter": {"7": [1.5]}}, r"user '7': \[1\.5\] is no list of items"),
        ({"item": {"3": {"title": "x"}}}, r"item\.json\.gz: item '3' has no text 'description'"),
    ],
)
def test_faults_are_named(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        load_scientific(write(tmp_path, **changes))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/amazon-scientific")
def test_the_real_set():
    raw = check_tables(load_scientific(REAL))
    assert (raw.events.height, raw.users.height, raw.items.height) == (58_492, 8317, 4344)
    assert raw.items["category"].n_unique() == 26  # 25 and none
    assert raw.items["category"].null_count() == 131
    words = raw.items["title"].str.count_matches(r"\S+").mean()
    assert words == pytest.approx(13, abs=1)
    assert set(raw.events["item"]) <= set(raw.items["item"])
