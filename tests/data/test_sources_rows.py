"""Raw files of every kind: dialects, encodings, packing, and faults named by file and line."""

import gzip
import io
import json
import zipfile
from datetime import timedelta

import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.delimited import Dialect
from mtl_jax.data.sources.rows import read_rows

ANY = Dialect()


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(path, names=None, dialect=ANY):
    return read_rows([path], names, dialect).frame.to_dict(as_series=False)


@pytest.mark.parametrize(
    ("separator", "text"),
    [
        (",", 'id,name\n1,"Lamp, big"\n2,"two\nlines"\n'),
        (";", "id;name\r\n1;Lamp, big\r\n2;two\nlines\r\n".replace("two\nlines", '"two\nlines"')),
        ("\t", 'id\tname\n1\tLamp, big\n\n2\t"two\nlines"\n'),
        ("::", 'id::name\n1::Lamp, big\n2::"two\nlines"\n'),
        (";", 'sep=;\r\nid;name\r\n1;Lamp, big\r\n2;"two\nlines"\r\n'),
        ("|", 'id|name\n1|Lamp, big\n2|"two\nlines"'),
    ],
)
def test_separators_are_found_and_quotes_hold_line_ends(tmp_path, separator, text):
    path = write(tmp_path, "a.csv", text)
    assert read(path) == {"id": ["1", "2"], "name": ["Lamp, big", "two\nlines"]}
    assert read(path, ["name"], Dialect(separator=separator)) == {
        "name": ["Lamp, big", "two\nlines"]
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_encodings_are_found(tmp_path, encoding):
    path = write(tmp_path, "a.csv", "größe,x\ncafé,1\n".encode(encoding))
    assert read(path) == {"größe": ["café"], "x": ["1"]}


def test_a_named_encoding_is_the_one_that_is_read(tmp_path):
    path = write(tmp_path, "a.csv", "名字,x\n红,1\n".encode("gb18030"))
    assert read(path, None, Dialect(encoding="gb18030")) == {"名字": ["红"], "x": ["1"]}
    with pytest.raises(UserError, match=r"a\.csv, line 1: the bytes are no utf-8 text"):
        read(path, None, Dialect(encoding="utf-8"))


def packed(kind, text):
    if kind == "gz":
        return gzip.compress(text.encode())
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("whatever.csv", text)
        archive.writestr("__MACOSX/._whatever.csv", "x")
    return found.getvalue()


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_packed_files_are_read(tmp_path, kind):
    path = write(tmp_path, f"a.csv.{kind}", packed(kind, "id,x\n1,2\n"))
    assert read(path) == {"id": ["1"], "x": ["2"]}


def test_json_keys_may_be_nested_missing_and_of_several_types(tmp_path):
    lines = [
        {"user": {"id": 1}, "v": 1, "tags": ["a", "b"], "ok": True},
        {"user": {"id": "x"}, "v": 2.5, "tags": None, "ok": False, "a.b": 3},
        {"user": None, "ok": None},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    want = {
        "user.id": ["1", "x", None],
        "v": [1.0, 2.5, None],
        "tags": [["a", "b"], None, None],
        "ok": [True, False, None],
        "a.b": [None, 3, None],
    }
    names = list(want)
    assert read(write(tmp_path, "a.jsonl", text), names) == want
    assert read(write(tmp_path, "b.json", json.dumps(lines)), names) == want


def test_parquet_keeps_its_types_and_opens_structs(tmp_path):
    frame = pl.DataFrame(
        {"user": [{"id": 5}, {"id": 6}], "x": pl.Series(["a", "b"]).cast(pl.Categorical)}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", ["x", "user.id"]) == {"x": ["a", "b"], "user.id": [5, 6]}


def test_files_are_put_one_after_the_other_and_rows_know_theirs(tmp_path):
    one = write(tmp_path, "1.csv", 'id,x\n1,"a\nb"\n2,c\n')
    two = write(tmp_path, "2.csv", "id,x\n\n3,d\n4,e\n")
    rows = read_rows([one, two], ["x"], ANY)
    assert rows.frame["x"].to_list() == ["a\nb", "c", "d", "e"]
    places = ["1.csv, row 1 (line 2)", "1.csv, row 2 (line 4)", "2.csv, row 1 (line 3)"]
    assert [rows.where(i).removeprefix(f"{tmp_path}/") for i in range(3)] == places
    lines = write(tmp_path, "a.jsonl", '\n{"x": 1}\n\n{"x": 2}\n')
    assert read_rows([lines], ["x"], ANY).where(1) == f"{lines}, row 2 (line 4)"


FAULTS = [
    ("a.csv", 'id,x,y\n1,2,3\n1,"a\n2,b,c\n', r"a\.csv, line 3: .*end of data: a quote that is n"),
    ("a.csv", "", r"a\.csv: the file is empty"),
    ("a.csv", "id,x\n", r"a\.csv: the file has no rows"),
    ("a.csv", 'id,x\n1,"a\nb"\n2,c,d\n', r"a\.csv, line 4: 3 fields separated by ',', 2 are exp"),
    ("a.csv", "id,x\n1,2\n3\n", r"a\.csv, line 3: 1 fields separated by ',', 2 are expected"),
    ("a.csv", 'id,x\n1,"a\n2,b\n3,c\n', r"a\.csv, line 2: a quote that is not closed"),
    ("a.csv", "id,x,id\n1,2,3\n", r"a\.csv: two columns are called 'id'"),
    ("a.csv", "id,y\n1,2\n", r"a\.csv: there is no column 'x'\. "),
    ("a.csv", b"id,x\n1,\x81\n", r"a\.csv, line 2: the bytes are no utf-8 or cp1252 text"),
    ("a.csv.gz", b"no gzip", r"a\.csv\.gz: cannot be read: Not a gzipped file"),
    ("a.zip", b"no zip", r"a\.zip: cannot be read: File is not a zip file"),
    ("a.jsonl", '{"x": 1}\n{"x": \n', r"a\.jsonl, line 2: no JSON"),
    ("a.jsonl", '{"x": 1}\n[2]\n', r"a\.jsonl, line 2: '\[2\]' is no JSON object"),
    ("a.jsonl", '{"xx": 1}\n', r"a\.jsonl: there is no column 'x'\. Did you mean 'xx'\?"),
    ("a.parquet", b"PAR1 broken", r"a\.parquet: cannot be read as parquet"),
    ("a.png", b"x", r"a\.png: no table; known endings: \.csv"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "says"), FAULTS)
def test_faults_are_named(tmp_path, name, data, says):
    with pytest.raises(UserError, match=says):
        read(write(tmp_path, name, data), ["x"])


def test_a_quote_inside_a_field_is_only_a_character(tmp_path):
    assert read(write(tmp_path, "a.csv", 'id,x\n1,5" pipe\n2,b\n'))["x"] == ['5" pipe', "b"]


def test_a_zip_of_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(UserError, match=r"a\.zip: holds 2 files \(a\.csv, b\.csv\); unpack it"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize("values", [[b"\xff"], [[[1]]], [timedelta(1)], [[b"x"]]])
def test_parquet_columns_that_nothing_can_be_made_of_are_refused(tmp_path, values):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": values, "item": [1]}).write_parquet(path)
    with pytest.raises(UserError, match=r"log.parquet: column 'user' holds"):
        read_rows([path], ["user", "item"])
    assert read_rows([path], ["item"]).frame.height == 1


def test_a_damaged_parquet_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user": ["a", "b"], "item": [1, None]}).write_parquet(path)
    whole = path.read_bytes()
    for size in range(4, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"log.parquet: cannot be read as parquet"):
            read_rows([path], ["user"])
