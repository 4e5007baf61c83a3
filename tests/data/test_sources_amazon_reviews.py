"""Amazon reviews: no row sees its own review's words or later ones; labels, faults, the set."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources.amazon_reviews import FIRST, load_amazon_reviews

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL = DATA / "amazon-musical-instruments"
DAY = 86_400


def review(user, item, day, stars=5.0, votes=(0, 0), **more):
    return {
        "reviewerID": user,
        "asin": item,
        "helpful": list(votes),
        "reviewText": f"words{user}{item}{day}",
        "overall": stars,
        "summary": f"sum{user}{item}{day}",
        "unixReviewTime": day * DAY,
        **more,
    }


def write(folder, reviews, name="Musical_Instruments_5.json.zip"):
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in reviews)
    if not name.endswith(".zip"):
        (folder / name).write_text(text)
        return folder
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("Musical_Instruments.json", text)
    return folder


SMALL = [
    review("c", "p", 30, 3.0, (3, 4)),  # the file is in no order of time
    review("a", "p", 10),
    review("b", "p", 20, 2.0),
    review("d", "p", 20),  # the second day's second review
    review("a", "p", 31, 4.0, (2, 4)),
    review("a", "q", 12),
    review("b", "q", 13),
    review("c", "q", 14, 1.0),
    review("e", "r", 15),
]


def test_first_reviews_are_text_and_later_days_are_rows(tmp_path):
    raw = check_tables(load_amazon_reviews(write(tmp_path, SMALL)))
    assert raw.events.rows() == [
        ("c", "q", 14 * DAY, 1.0, 0.0, None),
        ("c", "p", 30 * DAY, 3.0, 0.0, 1.0),
        ("a", "p", 31 * DAY, 4.0, 1.0, 0.0),
    ]
    text = {item: (s, r) for item, s, r in raw.items.rows()}
    assert text["p"] == ("sumap10. sumbp20. sumdp20", "wordsap10 wordsbp20 wordsdp20")
    assert text["q"] == ("sumaq12. sumbq13", "wordsaq12 wordsbq13")
    assert text["r"] == ("sumer15", "wordser15")  # known, and never a row
    assert raw.users["user"].to_list() == ["c", "a"]


def many(seed, n=400):
    """Reviews whose every word tells its user, item and day."""
    rng = np.random.default_rng(seed)
    rows = zip(
        rng.integers(0, 12, n), rng.integers(0, 25, n), rng.integers(100, 160, n), strict=True
    )
    return [review(f"u{u}", f"i{i}", int(d), float(rng.integers(1, 6))) for u, i, d in rows]


def days(text):
    """Days of the reviews that a text was made of."""
    return [int(word.rsplit("i", 1)[1][-3:]) for word in text.replace(".", " ").split()]


@pytest.mark.parametrize("seed", range(3))
def test_no_row_sees_words_of_its_own_day_or_later(tmp_path, seed):
    """Of its item, and of every item of its history, in the prepared data."""
    config = DataConfig(
        source="amazon_reviews",
        folder=str(write(tmp_path, many(seed))),
        prepared=str(tmp_path / "prepared"),
        template="{summaries}. {reviews}",
        statistics=StatisticsConfig(keys=("user", "item")),
    )
    data = open_prepared(prepare(config))
    texts = [json.loads(line)["text"] for line in (data.folder / "items" / "texts.jsonl").open()]
    assert min(len(days(text)) for text in texts) >= 2 * FIRST
    latest = np.array([0, *(max(days(text)) for text in texts)])  # item 0 has no text
    day = np.asarray(data.events["time"]) // DAY
    assert len(day) > 200
    assert (latest[data.events["item"]] < day).all()
    seen = 0
    for row, (a, b) in enumerate(
        zip(data.events["hist_start"], data.events["hist_stop"], strict=True)
    ):
        assert (latest[data.history["item"][a:b]] < day[row]).all()
        seen += int(b - a)
    assert seen > 100


FAULTS = [
    ([], r"Instruments_5\.json\.zip: the file is empty"),
    ([review("a", "p", 1), "{"], r"json\.zip, line 2: no JSON"),
    ([{k: v for k, v in review("a", "p", 1).items() if k != "asin"}], r"there is no column 'asin'"),
    ([review("a", "p", 1, "good")], r"row 1 \(line 1\): overall 'good' is not a number"),
    ([review("a", "p", 1, votes=(1, 2, 3))], r"helpful must be \[helpful votes, all votes\]"),
    ([review("a", "p", 1, helpful=None)], r"row 1 \(line 1\): helpful must be"),
    ([review("a", "p", 1)], r"no item has reviews of later days than its first 2"),
]  # fmt: skip


@pytest.mark.parametrize(("reviews", "says"), FAULTS)
def test_faults_are_named(tmp_path, reviews, says):
    with pytest.raises(UserError, match=says):
        load_amazon_reviews(write(tmp_path, reviews))


def test_one_file_is_needed(tmp_path):
    with pytest.raises(UserError, match=r"one file of reviews .* is needed; the folder is empty"):
        load_amazon_reviews(tmp_path)
    write(tmp_path, SMALL)
    write(tmp_path, SMALL, "other.json")
    with pytest.raises(
        UserError, match=r"the folder holds Musical_Instruments_5\.json\.zip, other"
    ):
        load_amazon_reviews(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/amazon-musical-instruments")
def test_the_real_set():
    raw = check_tables(load_amazon_reviews(REAL))
    assert (raw.events.height, raw.users.height, raw.items.height) == (8458, 1415, 900)
    assert raw.events["rating"].mean() == pytest.approx(4.4877, abs=1e-4)
    assert raw.events["helpful"].is_not_null().sum() == 2276
    assert raw.items["reviews"].str.len_chars().min() > 0
