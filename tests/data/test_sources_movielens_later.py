"""MovieLens latest-small and 1M in their layouts, their faults, and the real set where it lies."""

import gzip
import zipfile
from pathlib import Path

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.sources import SOURCES

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ml-latest-small"

LATEST = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n1,11,0.5,964982704\n"
    "2,10,3.5,964982705\n",
    "movies.csv": 'movieId,title,genres\n10,"American President, The (1995)",Comedy|Drama\n'
    "11,Babylon 5,(no genres listed)\n",
    "tags.csv": "userId,movieId,tag,timestamp\n1,10,funny,1445714994\n",
}
MILLION = {
    "ratings.dat": "1::10::5::978300760\n2::11::3::978300761\n",
    "movies.dat": "10::American President, The (1995)::Comedy|Drama\n"
    "11::Caf\u00e9: Au Lait (1993)::Comedy\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::20::70072\n",
}  # fmt: skip
SETS = {"ml_latest": LATEST, "ml1m": MILLION}


def write(folder, source, changes=(), packed=""):
    for name, text in {**SETS[source], **dict(changes)}.items():
        if text is None:
            continue
        data = text.encode("latin-1" if source == "ml1m" else "utf-8")
        if packed == ".gz":
            data = gzip.compress(data)
        if packed == ".zip":
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                archive.writestr(name, data)
        else:
            (folder / f"{name}{packed}").write_bytes(data)


@pytest.mark.parametrize("packed", ["", ".gz", ".zip"])
def test_latest(tmp_path, packed):
    write(tmp_path, "ml_latest", packed=packed)
    raw = check_tables(SOURCES["ml_latest"](tmp_path))
    assert raw.events.to_dict(as_series=False) == {
        "user": ["1", "1", "2"],
        "item": ["10", "11", "10"],
        "time": [964982703, 964982704, 964982705],
        "rating": [4.0, 0.5, 3.5],
        "like": [1.0, 0.0, 0.0],
    }
    assert raw.items.select("title", "year", "genres", "genre").rows() == [
        ("The American President", "1995", ["Comedy", "Drama"], "Comedy"),
        ("Babylon 5", None, [], None),
    ]
    assert raw.columns.labels[0].low == 0.5
    assert [name for name, _ in raw.files] == [f"ratings.csv{packed}", f"movies.csv{packed}"]


def test_tags_are_no_features(tmp_path):
    """A tag is given after the fact: nothing of tags.csv may come out, be it there or not."""
    write(tmp_path, "ml_latest")
    with_tags = SOURCES["ml_latest"](tmp_path)
    (tmp_path / "tags.csv").unlink()
    without = SOURCES["ml_latest"](tmp_path)
    assert with_tags.items.equals(without.items)
    assert with_tags.files == without.files


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_1m(tmp_path, packed):
    write(tmp_path, "ml1m", packed=packed)
    raw = check_tables(SOURCES["ml1m"](tmp_path))
    assert raw.events.rows() == [("1", "10", 978300760, 5.0, 1.0), ("2", "11", 978300761, 3.0, 0.0)]
    assert raw.items["title"].to_list() == ["The American President", "Caf\u00e9: Au Lait"]
    assert raw.users.rows() == [
        ("1", "under 18", "F", "K-12 student"),
        ("2", "56 or more", "M", "writer"),
    ]


FAULTS = [
    ("ml_latest", {"ratings.csv": None}, r"ratings\.csv: no such file.*holds movies\.csv, tags"),
    ("ml_latest", {"movies.csv": "movieId,titel,genres\n"}, r"no column 'title'\. Did you mean"),
    ("ml_latest", {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,three,4\n"},
     r"ratings\.csv, row 1 \(line 2\), column rating: 'three' is not a number"),
    ("ml_latest", {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,3,4.5\n"},
     r"column timestamp: '4\.5' is not a whole number"),
    ("ml1m", {"users.dat": "1::F::1::21::48067\n"}, r"users\.dat, row 1 \(line 1\), .* occ.*21"),
    ("ml1m", {"users.dat": "1::F::1::48067\n"}, r"users\.dat: 5 columns are named, line 1 has 4"),
    ("ml1m", {"ratings.dat": "1::10::5::9\n1::10::5\n"}, r"ratings\.dat, line 2: 3 fields"),
    ("ml1m", {"ratings.dat": ""}, r"ratings\.dat: the file is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "changes", "says"), FAULTS)
def test_faults_are_named(tmp_path, source, changes, says):
    write(tmp_path, source, changes)
    with pytest.raises(UserError, match=says):
        SOURCES[source](tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ml-latest-small")
def test_the_real_set():
    raw = check_tables(SOURCES["ml_latest"](REAL))
    assert (raw.events.height, raw.items.height, raw.users.height) == (100_836, 9742, 610)
    assert raw.events["rating"].mean() == pytest.approx(3.501557)
    assert raw.events["rating"].unique().sort().to_list() == [x / 2 for x in range(1, 11)]
    assert raw.items.explode("genres")["genres"].drop_nulls().n_unique() == 19
    assert raw.items["genre"].null_count() == 34
    assert set(raw.events["item"]) <= set(raw.items["item"])
