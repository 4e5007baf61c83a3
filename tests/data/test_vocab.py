from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.vocab import (
    Vocabulary,
    encode_tags,
    fit_categorical,
    fit_standardise,
    fit_tags,
    id_vocabulary,
)


def test_ids_in_order_of_first_appearance() -> None:
    ids = id_vocabulary(pl.Series(["b", "a", "b"]), pl.Series(["c", None, "a", ""]))
    assert ids.values == ("", "b", "a", "c")


def test_unknown_and_missing_are_zero() -> None:
    colours = fit_categorical(pl.Series(["red", "blue", None, "", "red"]))
    assert colours.values == ("", "blue", "red")
    codes = colours.encode(pl.Series(["red", "green", None, "", "blue"]))
    assert codes.dtype == np.int32
    assert codes.tolist() == [2, 0, 0, 0, 1]


def test_an_empty_vocabulary_knows_nothing() -> None:
    assert Vocabulary(("",)).encode(pl.Series(["a", "b"])).tolist() == [0, 0]


def test_tags_are_distinct_ascending_and_padded() -> None:
    tags = pl.Series(
        [["b", "a", "b"], [], None, ["new", "c"], [None, "c"]], dtype=pl.List(pl.String)
    )
    vocabulary = fit_tags(tags[:3])
    assert vocabulary.values == ("", "a", "b")
    assert encode_tags(vocabulary, tags).tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [0, 0]]
    vocabulary = fit_tags(tags)
    assert encode_tags(vocabulary, tags).tolist() == [[1, 2], [0, 0], [0, 0], [3, 4], [3, 0]]


def test_save_and_load(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("", "Zoë", 'a"b', "x\ny"))
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary


@pytest.mark.parametrize("text", ["[", "{}", '["a"]', "[]"])
def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(UserError, match=r"v\.json"):
        Vocabulary.load(tmp_path / "v.json")


def test_standardise() -> None:
    train = pl.DataFrame({"price": [1.0, 3.0, None], "same": [2.0, 2.0, 2.0]})
    fitted = fit_standardise(train, ["price", "same"])
    assert fitted.names == ("price", "same", "price.missing", "same.missing")
    later = pl.DataFrame({"price": [4.0, None, float("nan")], "same": [3.0, None, 2.0]})
    assert fitted.encode(later).tolist() == [[2, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]]


def test_standardise_of_nothing() -> None:
    fitted = fit_standardise(pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64}), ["x"])
    assert fitted.encode(pl.DataFrame({"x": [1.5]})).tolist() == [[1.5, 0]]
    assert fit_standardise(pl.DataFrame({"x": [1.0]}), []).encode(
        pl.DataFrame({"x": [1.0]})
    ).shape == (1, 0)
