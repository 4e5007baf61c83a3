"""Chinese reviews: texts as items, repeated and missing ones, faults, the real set."""

import gzip
from pathlib import Path

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.clean import clean
from mtl_jax.data.sources.chinese_reviews import load_chinese_reviews

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "zh-hotel-waimai"

HOTEL = 'label,review\n1,"房间大,""蔡陆线"""\n0,太差\n1,\n'
WAIMAI = "label,review\n0,太差\n1,很快\n0,很快\n"


def write(folder, hotel=HOTEL, waimai=WAIMAI):
    for name, text in (("ChnSentiCorp_htl_all.csv", hotel), ("waimai_10k.csv", waimai)):
        if text is not None:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_every_text_is_an_item_and_a_repeated_one_is_one(tmp_path):
    raw = check_tables(load_chinese_reviews(write(tmp_path)))
    assert raw.events.select("item", "sentiment", "scenario").rows() == [
        ("hotel-1", 1.0, "hotel"),
        ("hotel-2", 0.0, "hotel"),
        (None, 1.0, "hotel"),
        ("waimai-1", 0.0, "waimai"),  # the hotel's complaint in another place
        ("waimai-2", 1.0, "waimai"),
        ("waimai-2", 0.0, "waimai"),
    ]
    assert raw.items.rows()[0] == ("hotel-1", '房间大,"蔡陆线"', "hotel")
    assert raw.items.height == 4
    assert raw.events["user"].unique().to_list() == raw.users["user"].to_list() == ["anyone"]
    assert raw.events["time"].unique().to_list() == [1]
    report = clean(raw).report
    assert (report.count("missing").dropped, report.count("duplicate event").dropped) == (1, 1)


def test_one_of_the_files_is_enough_and_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither ChnSentiCorp_htl_all\.csv nor waimai_10k\.csv"):
        load_chinese_reviews(tmp_path)
    assert load_chinese_reviews(write(tmp_path, hotel=None)).events.height == 3


@pytest.mark.parametrize(
    ("hotel", "says"),
    [
        ("label,review\n1,x\n2,y\n", r"all\.csv\.gz, row 2 \(line 3\), column label: '2' is not 0"),
        ("label,text\n1,x\n", r"there is no column 'review'"),
        ("label,review\n1,x,y\n", r"line 2: 3 fields"),
    ],
)
def test_faults_are_named(tmp_path, hotel, says):
    with pytest.raises(UserError, match=says):
        load_chinese_reviews(write(tmp_path, hotel=hotel))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/zh-hotel-waimai")
def test_the_real_set():
    raw = check_tables(load_chinese_reviews(REAL))
    counts = raw.events.group_by("scenario").len().sort("scenario").rows()
    assert counts == [("hotel", 7766), ("waimai", 11_987)]
    parts = raw.events.group_by("scenario")
    rates = {name: part["sentiment"].mean() for (name,), part in parts}
    assert rates["hotel"] == pytest.approx(0.685, abs=5e-4)
    assert rates["waimai"] == pytest.approx(0.334, abs=5e-4)
    report = clean(raw).report
    assert (report.count("missing").dropped, report.count("duplicate event").dropped) == (1, 7)
