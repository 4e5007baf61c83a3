"""Faults of raw files are named by file, row, column and value."""

import gzip

import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.read import delimited, digests, headed, parquet, require, text_lines
from mtl_jax.data.sources.titles import decade, readable, split_year


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_lines_of_plain_and_compressed_and_both_encodings(tmp_path):
    text = "Café au lait\r\nb\u2028c\n\n"
    want = ["Café au lait", "b\u2028c"]  # no line breaks but \n and \r\n
    assert text_lines(write(tmp_path, "a", text)) == want
    assert text_lines(write(tmp_path, "a.gz", gzip.compress(text.encode(), mtime=0))) == want
    assert text_lines(write(tmp_path, "bom", b"\xef\xbb\xbfa\n")) == ["a"]
    assert text_lines(write(tmp_path, "latin", "Café\n".encode("latin-1"))) == ["Café"]


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_empty_file(tmp_path, data):
    with pytest.raises(UserError, match=r"empty\.txt: the file is empty"):
        text_lines(write(tmp_path, "empty.txt", data))


@pytest.mark.parametrize("data", [b"ok\nbad \x93quote\x94", b"ok\nnul \x00"])
def test_undecodable_bytes_are_named_with_their_line(tmp_path, data):
    with pytest.raises(UserError, match=r"x\.txt, line 2: the bytes are neither"):
        text_lines(write(tmp_path, "x.txt", data))


@pytest.mark.parametrize("data", [b"no gzip at all", gzip.compress(b"words " * 99, mtime=0)[:-20]])
def test_broken_gzip(tmp_path, data):
    with pytest.raises(UserError, match=r"x\.gz: cannot be read"):
        text_lines(write(tmp_path, "x.gz", data))


def test_missing_file_says_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"u\.data: no such file, nor u\.data\.gz; the folder is"):
        require(tmp_path, "u.data")
    write(tmp_path, "other.csv", "x")
    with pytest.raises(UserError, match=r"the folder holds other\.csv"):
        require(tmp_path, "u.data")
    with pytest.raises(UserError, match="there is no folder"):
        require(tmp_path / "nowhere", "u.data")


def test_missing_column_says_which_were_found(tmp_path):
    path = write(tmp_path, "x.inter", "user_id:token\tstars:float\n1\t2\n")
    with pytest.raises(UserError, match=r"x\.inter: column rating is missing; .*user_id, stars"):
        headed(path, "\t", ("user_id", "rating"))
    path = write(tmp_path, "u.data", "1\t2\t3\n")
    with pytest.raises(UserError, match=r"u\.data: column time is missing: line 1 has 3 fields"):
        delimited(path, "\t", ("user", "item", "rating", "time"))


def test_a_row_of_another_width_is_named(tmp_path):
    path = write(tmp_path, "x.inter", "a\tb\n1\t2\n1\t2\t3\n")
    with pytest.raises(UserError, match=r"row 2 \(line 3\): 3 fields .*expected 2 \(a, b\)"):
        headed(path, "\t", ("a", "b"))
    path = write(tmp_path, "u.data", "1\t2\n1\n")
    with pytest.raises(UserError, match=r"row 2 \(line 2\): 1 fields"):
        delimited(path, "\t", ("a", "b"))


def test_a_header_without_rows(tmp_path):
    with pytest.raises(UserError, match="a header and no rows"):
        headed(write(tmp_path, "x", "a\tb\n"), "\t", ("a",))


@pytest.mark.parametrize("value", ["", "many", "2.5", "nan", "inf"])
def test_a_value_of_the_wrong_type_is_named(tmp_path, value):
    table = headed(write(tmp_path, "x", f"a\tb\n1\t2\n1\t{value}\n"), "\t", ("a", "b"))
    says = rf"x, row 2 \(line 3\), column b: '{value}' is not a whole number"
    with pytest.raises(UserError, match=says):
        table.integers("b")
    if value != "2.5":
        with pytest.raises(UserError, match="is not a number"):
            table.floats("b")


def test_numbers_are_read(tmp_path):
    table = headed(write(tmp_path, "x", "a\tb\n1\t 2.0\n-1\t\n"), "\t", ("a", "b"))
    assert table.integers("a").to_list() == [1, -1]
    assert table.integers("b", may_be_empty=True).to_list() == [2, None]
    assert table.floats("a").dtype == pl.Float64


def test_parquet_faults(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(UserError, match="cannot be read as parquet"):
        parquet(write(tmp_path, "text.parquet", "words"), {"a": pl.Int64()})
    pl.DataFrame(
        {"a": ["1", "2", "zwei"], "f": [1.0, 2.5, 3.0], "n": [[1], [2], [3]]}
    ).write_parquet(path)
    with pytest.raises(UserError, match=r"x\.parquet: column b is missing; columns found: a, f, n"):
        parquet(path, {"a": pl.String(), "b": pl.Int64()})
    with pytest.raises(UserError, match=r"x\.parquet, row 3, column a: 'zwei' is not Int64"):
        parquet(path, {"a": pl.Int64()})
    with pytest.raises(UserError, match=r"x\.parquet, row 2, column f: 2\.5 is not Int64"):
        parquet(path, {"f": pl.Int64()})
    with pytest.raises(UserError, match=r"column a: the file holds String, List"):
        parquet(path, {"a": pl.List(pl.Int64)})
    with pytest.raises(UserError, match=r"column n: the file holds List\(Int64\), Int64 is needed"):
        parquet(path, {"n": pl.Int64()})
    assert parquet(path, {"n": pl.List(pl.String)})["n"].to_list() == [["1"], ["2"], ["3"]]


def test_parquet_lists_and_no_rows(tmp_path):
    path = tmp_path / "x.parquet"
    pl.DataFrame({"n": [["1"], ["2", "zwei"]]}).write_parquet(path)
    with pytest.raises(UserError, match="row 2, column n"):
        parquet(path, {"n": pl.List(pl.Int64)})
    pl.DataFrame({"n": []}, schema={"n": pl.Int64}).write_parquet(path)
    with pytest.raises(UserError, match="no rows"):
        parquet(path, {"n": pl.Int64()})


def test_digests_are_of_the_bytes(tmp_path):
    path = write(tmp_path, "a", "abc")
    assert digests(tmp_path, [path])[0][0] == "a"
    assert digests(tmp_path, [path])[0][1].startswith("ba7816bf8f01cfea")  # sha256 of "abc"


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ("Matrix, The", "The Matrix"),
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Enfer, L'", "L'Enfer"),
        ("Thieves (Voleurs, Les)", "Thieves (Les Voleurs)"),
        ("Postino, Il (Postman, The)", "Il Postino (The Postman)"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Karate Kid, The, Part II", "Karate Kid, The, Part II"),
        ("Cry, the Beloved Country", "Cry, the Beloved Country"),
        ("Paris, Texas", "Paris, Texas"),
        ("Theatre", "Theatre"),
    ],
)
def test_titles_are_made_readable(raw, want):
    assert readable(raw) == want


def test_years():
    assert split_year("Matrix, The (1999)") == ("Matrix, The", "1999")
    assert split_year("Seven (Se7en) (1995) ") == ("Seven (Se7en)", "1995")
    assert split_year("Seven (Se7en)") == ("Seven (Se7en)", "")
    assert [decade(y) for y in ("1994", "2001", "", "V", "19945")] == [
        "1990s", "2000s", None, None, None,
    ]  # fmt: skip
