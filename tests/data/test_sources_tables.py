"""Files of any log, described by a schema file: what comes of each of its names, and faults."""

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources import SOURCES
from mtl_jax.data.sources.tables.layout import parse_layout
from mtl_jax.data.sources.tables.load import load_layout
from mtl_jax.data.sources.tables.values import number_of, time_of, without_html

LOG = """uid,sku,ts,action,stars,tab,device
 a ,x,100,view,,home,ios
b,y,200,buy,5,search,
a,y,300,cart,3.5,home,web
,x,400,view,NULL,home,web
"""
ITEMS = """sku;title;kind;labels;price
x;"Lamp &amp; shade";light;a|b;1.299,50
y;Chair;seat; b |;7
z;;;;
"""
SCHEMA = """
[events]
files = "log.csv"
user = "uid"
item = "sku"
time = "ts"
time_format = "s"
context = ["device"]
scenario = "tab"
positive = "bought"

[labels.bought]
column = "action"
one_of = ["buy", "cart"]

[labels.stars]
column = "stars"
kind = "value"
low = 0.5
high = 5

[labels.like]
column = "stars"
at_least = 4

[items]
files = "items.csv"
text = ["title"]
template = "{title} ({kind})"
html = true
category = "kind"
tags = "labels"
dense = ["price"]
decimal = ","
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "schema.toml").write_text(SCHEMA)
    return tmp_path


def loaded(folder, *changes):
    """The folder's data with parts of the schema replaced."""
    text = (folder / "schema.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "schema.toml").write_text(text)
    return check_tables(SOURCES["tables"](folder))


def test_every_name_of_the_schema_comes_out(folder):
    raw = loaded(folder)
    assert raw.events.to_dict(as_series=False) == {
        "user": ["a", "b", "a", None],
        "item": ["x", "y", "y", "x"],
        "time": [100, 200, 300, 400],
        "bought": [0, 1, 1, 0],
        "stars": [None, 5, 3.5, None],
        "like": [None, 1, 0, None],
        "device": ["ios", None, "web", "web"],
        "scenario": ["home", "search", "home", "home"],
    }
    assert raw.items.to_dict(as_series=False) == {
        "item": ["x", "y", "z"],
        "title": ["Lamp & shade", "Chair", ""],
        "kind": ["light", "seat", None],
        "labels": [["a", "b"], ["b"], []],
        "price": [1299.5, 7.0, None],
        "text": ["Lamp & shade (light)", "Chair (seat)", "()"],
    }
    assert raw.users.to_dict(as_series=False) == {"user": ["a", "b"]}
    assert raw.columns.positive == "bought"
    assert raw.columns.context == ("device", "scenario")
    assert (raw.columns.item_category, raw.columns.item_tags) == ("kind", "labels")
    assert [name for name, _ in raw.files] == ["log.csv", "items.csv"]


def test_columns_of_the_log_describe_items_and_users_by_their_first_value(folder):
    raw = loaded(folder, ('\nfiles = "items.csv"\n', "\n"),
                 ('text = ["title"]', 'text = ["action"]'), ('"{title} ({kind})"', '"{action}"'),
                 ('category = "kind"', 'category = "tab"'), ('tags = "labels"', ""),
                 ('dense = ["price"]', 'dense = ["stars"]'),
                 ('decimal = ","', '[users]\ncategorical = ["device"]'),
                 ('context = ["device"]\n', ""), ('scenario = "tab"\n', ""))  # fmt: skip
    assert raw.items.select("item", "action", "tab", "stars").rows() == [
        ("x", "view", "home", None),
        ("y", "buy", "search", 5.0),
    ]
    assert raw.users.rows() == [("a", "ios"), ("b", None)]


def test_rows_without_ids_are_items_of_one_user_without_order(folder):
    raw = loaded(folder, ('user = "uid"\nitem = "sku"\ntime = "ts"\ntime_format = "s"\n', ""),
                 ('\nfiles = "items.csv"\n', "\n"), ('text = ["title"]', 'text = ["action"]'),
                 ('"{title} ({kind})"', '"{action}"'),
                 ('category = "kind"', 'category = "tab"'), ('tags = "labels"', ""),
                 ('dense = ["price"]', ""))  # fmt: skip
    assert raw.events["item"].to_list() == raw.items["item"].to_list() == ["1", "2", "3", "4"]
    assert raw.events["user"].unique().to_list() == ["anyone"]
    assert raw.events["time"].unique().to_list() == [1]
    ordered = loaded(folder, ("[events]", '[events]\norder = "rows"'))
    assert ordered.events["time"].to_list() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rule", "likes"),
    [
        ("at_least = 5", [None, 1, 0, None]),
        ("at_least = 3.5", [None, 1, 1, None]),
        ("above = 3.5", [None, 1, 0, None]),
        ("one_of = [5]", [None, 1, 0, None]),
    ],
)
def test_thresholds_and_kinds(folder, rule, likes):
    assert loaded(folder, ("at_least = 4", rule)).events["like"].to_list() == likes


def test_a_split_column_and_a_label_of_every_row(folder):
    log = LOG.replace("tab,", "part,").replace("home", "Train").replace("search", "test")
    (folder / "log.csv").write_text(log)
    always = "[labels.here]\nalways = true"
    raw = loaded(folder, ('[labels.like]\ncolumn = "stars"\nat_least = 4', always),
                 ('scenario = "tab"', 'split = "part"'))  # fmt: skip
    assert raw.events["split"].to_list() == [0, 2, 0, 0]
    assert raw.events["here"].to_list() == [1, 1, 1, 1]


def test_the_main_category_may_be_the_first_tag(folder):
    raw = loaded(folder, ('category = "kind"', 'category = "labels"\ncategorical = ["kind"]'))
    assert raw.columns.item_category == "first_labels"
    assert raw.items["first_labels"].to_list() == ["a", "b", None]


def test_files_by_pattern_and_packed_names(folder):
    (folder / "log.csv").rename(folder / "log-2.csv")
    (folder / "log-1.csv").write_text(LOG.splitlines()[0] + "\nc,x,50,buy,1,home,web\n")
    raw = loaded(folder, ('"log.csv"', '"log-*.csv"'))
    assert raw.events["user"].to_list() == ["c", "a", "b", "a", None]
    with pytest.raises(UserError, match=r"log\.csv: no such file \(\[events\] files\)"):
        loaded(folder, ('"log-*.csv"', '"log.csv"'))


def test_ids_that_a_writer_made_fractions_meet_the_catalogue(folder):
    (folder / "log.csv").write_text(LOG.replace(",x,", ",12.0,").replace(",y,", ",7.0,"))
    (folder / "items.csv").write_text(ITEMS.replace("\nx;", "\n12;").replace("\ny;", "\n7;"))
    assert loaded(folder).events["item"].to_list() == ["12", "7", "7", "12"]


@pytest.mark.parametrize(
    ("values", "form", "zone", "seconds"),
    [
        ([100, 200], "s", "UTC", [100, 200]),
        (["1500", "2999.9"], "ms", "UTC", [1, 2]),
        (["2024-03-01T10:00:00+02:00", "2024-03-01 08:00Z"], "iso", "Asia/Tokyo", [1709280000] * 2),
        (["2024-03-01T10:00:00.999-0230"], "iso", "UTC", [1709296200]),
        (["2024-03-01T09:00:00", "2024-03-01"], "iso", "Europe/Berlin", [1709280000, 1709247600]),
        (["01.03.2024 08:00"], "%d.%m.%Y %H:%M", "UTC", [1709280000]),
        (["2024-02-30", "yesterday", "2024-03-01T08:00:00 x"], "iso", "UTC", [None] * 3),
        (["2024-10-27T02:30:00"], "iso", "Europe/Berlin", [1729989000]),  # told twice: the first
    ],
)
def test_times(values, form, zone, seconds):
    assert time_of(pl.Series(values), form, zone).to_list() == seconds


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("$1,299.00", ".", 1299.0), ("1.299,50 €", ",", 1299.5), ("1 299,5", ",", 1299.5),
        ("-3", ".", -3.0), ("1,5", ".", None), ("1.5", ",", None), ("1,29,900", ".", None),
        ("inf", ".", None), ("12%", ".", None), ("EUR 5", ".", 5.0), ("1,299", ".", 1299.0),
    ],
)  # fmt: skip
def test_numbers(text, decimal, value):
    assert number_of(pl.Series([text]), decimal).to_list() == [value]


def test_html_becomes_text():
    found = without_html(pl.Series(["a &amp;quot;b&#39;", "x<br>y", None, "1 < 2 & 3", "plain"]))
    assert found.to_list() == ["a \"b'", "x y", None, "1 < 2 & 3", "plain"]


FAULTS = [
    (("[items]", "[item]"), r"schema\.toml: no section 'item'\. Did you mean 'items'\?"),
    (('user = "uid"', 'usr = "uid"'), r"\[events\]: there is no 'usr' here\. Did you mean 'user'"),
    (('user = "uid"', "user = 3"), r"\[events\]: user: 3 is no text; write it in quotes"),
    (("at_least = 4", 'at_least = "4"'), r"\[labels\.like\]: at_least: '4' is no number"),
    (("html = true", "html = 1"), r"\[items\]: html: 1 is neither true nor false"),
    (('kind = "value"', 'kind = "values"'), r"'values' is not one of .* Did you mean 'value'\?"),
    (('decimal = ","', 'decimal = ";"'), r"\[items\]: decimal: ';' is not one of"),
    (('time_format = "s"\n', ""), r"\[events\]: time_format is missing"),
    (('positive = "bought"', 'positive = "stars"'), r"positive='stars' is no binary label"),
    (('one_of = ["buy", "cart"]', "always = true"), r"\[labels\.bought\]: name its column, or"),
    (("at_least = 4", "at_least = 4\nabove = 3"), r"at_least and above exclude each other"),
    (('files = "log.csv"\n', ""), r"\[events\]: files is missing"),
    (('user = "uid"', 'user = "uidd"'), r"log\.csv: there is no column 'uidd'\. Did you m"),
    (('"buy", "cart"', '"bye"'), r"log\.csv: column 'action' never is 'bye', which \[labels"),
    (('{title} ({kind})', '{titel}'), r"the items have no column 'titel'; nearest is 'title'"),
    (('decimal = ","\n', ""), r"items\.csv, row 1 \(line 2\), column 'price' .*: '1\.299,50'"),
    (('time_format = "s"', 'time_format = "iso"'), r"log\.csv, row 1 \(line 2\), column 'ts'.*iso"),
    (('time_format = "s"', 'time_format = "%Q"'), r"column 'ts' .*'100' is not a time of"),
    (("high = 5", "high = inf"), r"\[labels\.stars\]: low=0\.5 must be below high=inf"),
    (("high = 5", "high = 0.5"), r"low=0\.5 must be below high=0\.5"),
    (("at_least = 4", "at_least = nan"), r"\[labels\.like\].* every number finite"),
    (('[labels.stars]', '[labels.device]'), r"a label and a context are both called 'device'"),
    (('[labels.stars]', '[labels.user]'), r"\[labels\.user\]: a label cannot have this name"),
    (('scenario = "tab"', 'split = "tab"'), r"column 'tab' \(\[events\]\): 'home' is not train, v"),
    (('at_least = 4', ''), r"\[labels\.like\]\): '5' is not 0 or 1, true or false"),
    (('[events]', 'missing = ["?"]\n[events]'), r"log\.csv, row 4 .*, column 'stars' .*'NULL'"),
    (('[events]', '[events'), r"schema\.toml: no TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), FAULTS)
def test_faults_are_named(folder, change, says):
    with pytest.raises(UserError, match=says):
        loaded(folder, change)


def test_without_a_schema_file_the_way_to_one_is_told(tmp_path):
    with pytest.raises(UserError, match=r"schema\.toml: there is no schema file.*--inspect="):
        SOURCES["tables"](tmp_path)


def test_prepared_data_follow_the_schema_file(folder, tmp_path_factory):
    schema = tmp_path_factory.mktemp("elsewhere") / "mine.toml"
    schema.write_text((folder / "schema.toml").read_text())
    config = DataConfig(
        source="tables",
        folder=str(folder),
        schema=str(schema),
        prepared=str(folder / "prepared"),
        template="{text}",
        valid_fraction=0.3,
        statistics=StatisticsConfig(keys=("user", "category")),
    )
    first = open_prepared(prepare(config)).digest
    assert (folder / "prepared" / "items" / "texts.jsonl").read_text().count("Lamp & shade (light)")
    assert open_prepared(prepare(config)).digest == first
    stamp = (folder / "prepared" / "manifest.json").stat().st_mtime_ns
    prepare(config)
    assert (folder / "prepared" / "manifest.json").stat().st_mtime_ns == stamp
    schema.write_text(schema.read_text().replace("at_least = 4", "at_least = 5"))
    assert open_prepared(prepare(config)).digest != first


def test_a_million_rows_are_read_without_a_loop(tmp_path, monkeypatch):
    """Only what a row of many would notice: values are not taken one by one."""
    rows = 20_000
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 100, (rows, 2))
    lines = "".join(f"u{u},i{i},{t},{u % 2}\n" for t, (u, i) in enumerate(ids, 1))
    (tmp_path / "log.csv").write_text("user,item,ts,click\n" + lines)
    layout = {
        "events": {
            "files": "log.csv",
            "user": "user",
            "item": "item",
            "time": "ts",
            "time_format": "s",
        },
        "labels": {"click": {"column": "click"}},
    }
    monkeypatch.setattr(pl.Series, "__iter__", None)
    monkeypatch.setattr(pl.Series, "to_list", None)
    raw = load_layout(tmp_path, parse_layout(layout, "x"))
    assert raw.events["click"].sum() == int((ids[:, 0] % 2).sum())


@pytest.mark.parametrize(
    ("column", "what"), [("ts", "ts"), ("stars", "a number"), ("action", "0 or 1")]
)
def test_lists_where_one_value_is_needed_are_refused_with_their_row(tmp_path, column, what):
    log = pl.DataFrame({"uid": ["a"], "sku": ["x"], "ts": [1], "stars": [4], "action": [1]})
    log.with_columns(pl.concat_list(column)).write_parquet(tmp_path / "log.parquet")
    (tmp_path / "schema.toml").write_text(
        "[events]\nfiles = 'log.parquet'\nuser = 'uid'\nitem = 'sku'\ntime = 'ts'\n"
        "time_format = 's'\n[labels.did]\ncolumn = 'action'\n"
        "[labels.stars]\ncolumn = 'stars'\nkind = 'value'\n"
    )
    with pytest.raises(UserError, match=rf"log.parquet, row 1, column '{column}'.*{what}"):
        SOURCES["tables"](tmp_path)
