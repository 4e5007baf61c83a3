"""Census-Income in the archive's layout: labels, parts, no input that is a label, faults."""

import gzip

import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.sources.census import NAMES, load_census


def person(income="- 50000.", **changes):
    """A line of the file: 42 columns, a comma and a blank between."""
    told = dict.fromkeys(NAMES, "Not in universe")
    told |= {"age": "38", "wage_per_hour": "0", "capital_gains": "594", "capital_losses": "0",
             "dividends": "0", "employers": "6", "weeks_worked": "52", "instance_weight": "1700.09",
             "major_industry": "Construction", "marital_status": "Divorced", "year": "95",
             "income": income}  # fmt: skip
    return ", ".join({**told, **changes}.values())


DATA = [person("50000+.", marital_status="Never married", born="?"), *[person()] * 24]
TEST = [person(age="5", marital_status="Never married"), person("50000+.", age="60")]


def write(folder, data=DATA, test=TEST):
    (folder / "census-income.data").write_text("\n".join(data) + "\n")
    (folder / "census-income.test.gz").write_bytes(gzip.compress("\n".join(test).encode()))
    return folder


def test_two_labels_and_three_parts(tmp_path):
    raw = check_tables(load_census(write(tmp_path)))
    assert raw.events["income_50k"].to_list() == [1.0, *[0.0] * 24, 0.0, 1.0]
    assert raw.events["never_married"].to_list() == [1.0, *[0.0] * 24, 1.0, 0.0]
    assert raw.events["split"].to_list() == [*[0] * 9, 1, *[0] * 9, 1, *[0] * 5, 2, 2]
    assert raw.events["item"].to_list() == raw.items["item"].to_list()
    assert raw.items["age"].to_list()[-3:] == [38.0, 5.0, 60.0]
    assert raw.items["born"].to_list()[:2] == [None, "Not in universe"]
    assert [name for name, _ in raw.files] == ["census-income.data", "census-income.test.gz"]


def test_no_input_is_a_label_or_the_weight(tmp_path):
    raw = load_census(write(tmp_path))
    c = raw.columns
    inputs = {*c.item_categorical, *c.item_dense}
    assert inputs == set(NAMES) - {"marital_status", "instance_weight", "income"}
    assert set(raw.items.columns) == {*inputs, "item"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            [person("60000")],
            r"census-income\.data, row 1 \(line 1\), column income: '60000' is not",
        ),
        ([person(), person(age="old")], r"row 2 \(line 2\), column age: 'old' is not a number"),
        ([person() + ", 1"], r"42 columns are named, line 1 has 43 fields"),
        ([person(), "1, 2"], r"census-income\.data, line 2: 2 fields"),
    ],
)
def test_faults_are_named(tmp_path, data, says):
    with pytest.raises(UserError, match=says):
        load_census(write(tmp_path, data))
