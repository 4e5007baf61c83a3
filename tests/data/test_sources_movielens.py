"""MovieLens-100K in both layouts, its faults, and the real set where it lies."""

import gzip
from pathlib import Path

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.sources import SOURCES
from mtl_jax.data.sources.movielens import age_band, load_movielens

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ml-100k"

ORIGINAL = {
    "u.data": "1\t10\t5\t881250949\n2\t11\t3\t881250950\n1\t12\t4\t881250951\n",
    "u.item": (
        "10|Matrix, The (1999)|01-Jan-1999||http://x|0|1|1\n"
        "11|Caf\u00e9 au lait (1993)|||http://y|0|0|0\n"
        "12|unknown||||1|0|0\n"
    ),
    "u.user": "1|17|M|student|00000\n2|56|F|other|V3N4P\n",
    "u.genre": "unknown|0\nAction|1\nSci-Fi|2\n\n",
}
ATOMIC = {
    "ml-100k.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t10\t5\t881250949\n2\t11\t3\t881250950\n1\t12\t4\t881250951\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tMatrix, The\t1999\tAction Sci-Fi\n"
        "11\tCaf\u00e9 au lait (1993)\tV\t\n"
        "12\tunknown\t\tunknown\n"
    ),
    "ml-100k.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t17\tM\tstudent\t00000\n2\t56\tF\tother\tV3N4P\n"
    ),
}
LAYOUTS = {"original": ORIGINAL, "atomic": ATOMIC}


def write(folder, layout, changes=(), encoding="latin-1", compress=False):
    """The layout's files, with {name: text} changed (None: absent)."""
    for name, text in {**LAYOUTS[layout], **dict(changes)}.items():
        if text is None:
            continue
        data = text if isinstance(text, bytes) else text.encode(encoding)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_layouts_give_the_same_tables(tmp_path, layout, encoding, compress):
    write(tmp_path, layout, encoding=encoding, compress=compress)
    raw = check_tables(SOURCES["ml100k"](tmp_path))
    assert raw.events.to_dict(as_series=False) == {
        "user": ["1", "2", "1"],
        "item": ["10", "11", "12"],
        "time": [881250949, 881250950, 881250951],
        "rating": [5.0, 3.0, 4.0],
        "like": [1.0, 0.0, 1.0],
    }
    assert raw.items.to_dict(as_series=False) == {
        "item": ["10", "11", "12"],
        "title": ["The Matrix", "Caf\u00e9 au lait", "unknown"],
        "year": ["1999", "1993", None],
        "decade": ["1990s", "1990s", None],
        "release_year": [1999.0, 1993.0, None],
        "genres": [["Action", "Sci-Fi"], [], ["unknown"]],
        "genre": ["Action", None, "unknown"],
    }
    assert raw.users.to_dict(as_series=False) == {
        "user": ["1", "2"],
        "age": ["under 18", "56 or more"],
        "gender": ["M", "F"],
        "occupation": ["student", "other"],
    }
    ending = ".gz" if compress else ""
    assert {name for name, _ in raw.files} == {f"{name}{ending}" for name in LAYOUTS[layout]}


def test_genres_follow_the_indices_of_their_file(tmp_path):
    write(tmp_path, "original", {"u.genre": "Sci-Fi|2\nunknown|0\nAction|1\n"})
    assert load_movielens(tmp_path).items["genres"][0].to_list() == ["Action", "Sci-Fi"]
    write(tmp_path, "original", {"u.genre": "Sci-Fi|1\nunknown|0\nAction|1\n"})
    with pytest.raises(UserError, match=r"u\.genre: the indices must be 0 to 2"):
        load_movielens(tmp_path)


FAULTS = [
    ("original", {"u.data": ""}, r"u\.data: the file is empty"),
    ("original", {"u.user": None}, r"u\.user: no such file.*holds u\.data, u\.genre, u\.item"),
    ("original", {"u.data": "1\t2\t3\n"}, r"u\.data: column timestamp is missing"),
    ("original", {"u.data": "1\t2\t3\t4\n1\t2\tfive\t4\n"}, r"row 2 \(line 2\), .* rating: 'five'"),
    ("original", {"u.data": "1\t2\t3\t4.5\n"}, "row 1 .*column timestamp: '4.5' is not a whole"),
    ("original", {"u.item": b"10|\x81\x8d|x||u|0|1|1\n"}, r"u\.item, line 1: the bytes are"),
    ("original", {"u.item": "10|A|x||u|0|1|1\n11|B|x||u|0|1\n"}, r"row 2 \(line 2\): 7 fields"),
    ("original", {"u.item": "10|A|x||u|0|1\n"}, r"u\.item: column Sci-Fi is missing"),
    ("original", {"u.item": "10|A|x||u|0|1|yes\n"}, "column Sci-Fi: 'yes'"),
    ("original", {"u.user": "1|old|M|x|0\n"}, "column age: 'old'"),
    ("original", {"u.genre": "Action|x\n"}, r"u\.genre, row 1 .*'x' is not a whole number"),
    ("atomic", {"ml-100k.inter": ""}, r"ml-100k\.inter: the file is empty"),
    ("atomic", {"ml-100k.inter": "user_id:token\n"}, "item_id is missing; columns found: user_id"),
    ("atomic", {"ml-100k.item": None}, r"ml-100k\.item: no such file, nor ml-100k\.item\.gz"),
    (
        "atomic",
        {"ml-100k.inter": "user_id\titem_id\trating\ttimestamp\n1\t2\t3\t4\n1\t2\t-\t4\n"},
        r"ml-100k\.inter, row 2 \(line 3\), column rating: '-' is not a number",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "changes", "says"), FAULTS)
def test_faults_are_named(tmp_path, layout, changes, says):
    write(tmp_path, layout, changes)
    with pytest.raises(UserError, match=says):
        load_movielens(tmp_path)


def test_a_folder_of_neither_layout(tmp_path):
    with pytest.raises(
        UserError, match=r"u\.data: no such file, nor .*ml-100k\.inter; the folder is"
    ):
        load_movielens(tmp_path)


def test_age_bands():
    bands = [age_band(age) for age in (0, 17, 18, 24, 25, 35, 45, 49, 50, 55, 56, 90)]
    assert bands == [
        "under 18", "under 18", "18-24", "18-24", "25-34", "35-44", "45-49", "45-49",
        "50-55", "50-55", "56 or more", "56 or more",
    ]  # fmt: skip


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ml-100k")
def test_the_real_set():
    raw = check_tables(load_movielens(REAL))
    assert (raw.events.height, raw.items.height, raw.users.height) == (100_000, 1682, 943)
    assert raw.events["rating"].mean() == pytest.approx(3.52986)
    assert raw.events["like"].sum() == 55_375
    titles = dict(zip(raw.items["item"], raw.items["title"], strict=True))
    assert titles["12"] == "The Usual Suspects"
    assert titles["543"] == "Les Mis\u00e9rables"
    assert raw.items.filter(item="1412")["year"].item() == "1995"  # its column holds "V"
    assert raw.items["year"].null_count() == 1
    assert raw.items["genre"].null_count() == 0
    assert raw.items.explode("genres")["genres"].n_unique() == 19
