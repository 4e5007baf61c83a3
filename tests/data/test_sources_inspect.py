"""What `prepare --inspect` guesses of strangers' files, and that its proposal is read as it is."""

import json
import runpy

import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.check import check_tables
from mtl_jax.data.clean import clean
from mtl_jax.data.sources.tables import load_tables
from mtl_jax.data.sources.tables.guess import guess
from mtl_jax.data.sources.tables.heads import profile, read_heads
from mtl_jax.data.sources.tables.inspect import inspect
from strangers import STRANGERS


def proposed(tmp_path, name):
    """(what was told, the data read by the proposed schema, the proposed config, the users)."""
    folder, work = tmp_path / "raw", tmp_path / "work"
    folder.mkdir()
    users = STRANGERS[name](folder)
    told, (schema, config) = inspect(folder, work)
    found = runpy.run_path(str(config))["get_config"]()
    return told, check_tables(load_tables(folder, schema)), found, users


def roles(folder):
    found = guess(read_heads(folder))
    return {g.column: g.role for g in found.events.guesses}


def test_a_bookshop(tmp_path):
    told, raw, config, users = proposed(tmp_path, "bookshop")
    assert "read as cp1252" in told
    assert raw.columns.user_categorical == ("Bundesland",)
    assert (raw.columns.item_text, raw.columns.item_category) == (("Titel",), "Kategorie")
    assert (raw.columns.item_dense, raw.columns.context) == (("Preis",), ("Gerät",))
    assert [v.name for v in raw.columns.labels] == ["Bewertung", "like"]
    assert raw.columns.positive == "like"
    first = raw.items.filter(item="978-3-00001").to_dicts()[0]
    assert (first["Titel"], first["Preis"]) == ("Die Straße nach Köln; Band 1", 9.95)
    assert set(raw.users["user"]) == set(users)  # one had blanks around it
    assert [t.kind for t in config.tasks] == ["regression", "binary", "retrieval"]
    assert (config.tasks[0].low, config.tasks[0].high) == (1.0, 5.0)
    report = clean(raw).report
    assert report.count("missing").dropped == report.count("duplicate event").dropped == 1


def test_an_app(tmp_path):
    told, raw, config, users = proposed(tmp_path, "app")
    assert "events-1.jsonl (300 rows), events-2.jsonl.gz (300 rows)" in told
    assert raw.events.height == 600
    assert raw.events["time"].min() > 1_700_000_000  # seconds, not milliseconds
    labels = {v.name: raw.events[v.name].sum() for v in raw.columns.labels}
    kinds = [json.loads(line)["event"] for line in (tmp_path / "raw" / "events-1.jsonl").read_text().split("\n") if line]  # fmt: skip  # noqa: E501
    assert list(labels) == ["interaction", "purchase", "add_to_cart"]
    assert labels["interaction"] == 600
    assert raw.events["purchase"][:300].sum() == kinds.count("purchase")
    assert raw.columns.positive == "interaction"
    assert raw.columns.context == ("device_os", "scenario")
    assert raw.columns.user_categorical == ("user_country",)
    assert "NA" in set(raw.users["user_country"])  # a country, no missing value
    assert (raw.columns.item_tags, raw.columns.item_category) == ("genres", "first_genres")
    assert raw.items["text"][0] == "Lamp no. 0. A bright thing for every room of the house."
    assert set(raw.users["user"].drop_nulls()) == set(users)
    assert [t.name for t in config.tasks] == ["purchase", "add_to_cart", "next_item"]
    assert not config.rank.exclude_consumed  # what was viewed may be recommended


def test_a_warehouse(tmp_path):
    _, raw, config, users = proposed(tmp_path, "warehouse")
    assert raw.items["text"][0] == "Tom's pan, model 0 & lid"
    assert raw.items["department"].unique().sort().to_list() == ["Garden > Tools", "Kitchen & Home", "Toys"]  # fmt: skip  # noqa: E501
    assert raw.items["price"].to_list()[:8:5] == [1200.0, 1205.0]
    assert raw.items["price"][7] is None  # "n/a"
    assert (raw.columns.user_categorical, raw.columns.user_dense) == (("plan",), ("age",))
    assert set(raw.events["user"].drop_nulls()) == set(users) <= set(raw.users["user"])
    assert raw.columns.context == ("weather",)
    assert [t.name for t in config.tasks] == ["clicked", "ordered", "dwell_seconds", "next_item"]
    assert "dwell_seconds" not in dict(config.rank.weights)  # seconds would drown the rest
    assert config.rank.exclude_consumed
    assert clean(raw).report.count("duplicate items").dropped == 1


@pytest.mark.parametrize("name", STRANGERS)
def test_no_line_of_a_proposed_config_is_long(tmp_path, name):
    proposed(tmp_path, name)
    lines = (tmp_path / "work" / "config.py").read_text().splitlines()
    assert max(len(line) for line in lines if "folder=" not in line) <= 100


def test_the_proposal_is_never_written_over(tmp_path):
    folder, work = tmp_path / "raw", tmp_path / "work"
    folder.mkdir()
    STRANGERS["bookshop"](folder)
    inspect(folder, work)
    inspect(folder, work)  # the same again is no loss
    (work / "schema.toml").write_text("# mine\n" + (work / "schema.toml").read_text())
    before = (work / "schema.toml").read_text()
    with pytest.raises(UserError, match=r"schema\.toml exists and is not what would be written"):
        inspect(folder, work)
    assert (work / "schema.toml").read_text() == before
    with pytest.raises(UserError, match="name another folder than that of the files"):
        inspect(folder, folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no folder"),
        ({}, "the folder is empty"),
        ({"README.md": "x", "a.png": "x"}, r"no table \(CSV.*holds README\.md, a"),
    ],
)
def test_a_folder_without_tables_is_refused(tmp_path, content, says):
    folder = tmp_path / "raw"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    with pytest.raises(UserError, match=f"--inspect=.*{says}"):
        inspect(folder, tmp_path / "work")


@pytest.mark.parametrize(
    ("values", "kind", "form"),
    [
        (["0", "1", ""], "flag", ""),
        ([True, False], "flag", ""),
        (["yes", "No"], "flag", ""),
        (["1", "2.5", "NA"], "number", ""),
        (["1", "2", "three"], "text", ""),
        ([1_700_000_000, 1_700_000_001], "time", "s"),
        (["1700000000123", "1700000000124"], "time", "ms"),
        ([20240229, 20240301], "time", "%Y%m%d"),
        ([20240230, 20240231], "number", ""),
        (["2024-03-01T10:00:00Z"], "time", "iso"),
        (["31.12.2024 10:00"], "time", "%d.%m.%Y %H:%M"),
        (["03/31/2024"], "time", "%m/%d/%Y"),
        (["", None], "empty", ""),
        ([["a"], []], "list", ""),
    ],
)
def test_values_say_what_a_column_is(values, kind, form):
    found = profile(pl.Series("x", values))
    assert (found.kind, found.form) == (kind, form)


def test_day_and_month_that_could_change_places_are_told(tmp_path):
    rows = "".join(f"u{i % 3},i{i % 4},0{1 + i % 9}/0{1 + i % 7}/2024,{i % 2}\n" for i in range(30))
    (tmp_path / "log.csv").write_text("user,item,date,click\n" + rows)
    told, _ = inspect(tmp_path, tmp_path / "work")
    assert "check: date: all values are times (%d/%m/%Y); day and month could change pl" in told


def test_what_varies_with_what_decides_between_item_user_and_moment(tmp_path):
    lines = ["user_id,item_id,ts,brand,town,hour,won,seen_price,remark"]
    for i in range(200):
        u, k = i * 7 % 20, i * 3 % 41
        lines.append(
            f"{u},{k},{1_700_000_000 + i},b{k % 4},t{u % 3},{'am' if i % 3 else 'pm'},"
            f"{int(i == 50)},{i % 37}.5,it was a very good buy indeed {i}"
        )
    (tmp_path / "log.csv").write_text("\n".join(lines))
    assert roles(tmp_path) == {
        "user_id": "user",
        "item_id": "item",
        "ts": "time",
        "brand": "item categorical",
        "town": "user categorical",
        "hour": "context",
        "won": "label",  # the same in all rows of most items: it is rare
        "seen_price": "left out",
        "remark": "left out",
    }


def test_rows_that_are_no_events_are_items_with_labels(tmp_path):
    lines = ["label,review"] + [f"{i % 2},a review of {i} words or so and more" for i in range(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    assert roles(tmp_path) == {"label": "label", "review": "item text"}
    _, (schema, config) = inspect(tmp_path, tmp_path / "work")
    found = runpy.run_path(str(config))["get_config"]()
    assert (found.data.split, found.model.item_id, found.model.user_id) == ("ratio", False, False)
    assert load_tables(tmp_path, schema).items.height == 60


def test_columns_of_no_use_are_left_out_and_said_to_be(tmp_path):
    """Bytes, vectors, tables in cells, durations: nothing that a tower could read."""
    rows = 60
    pl.DataFrame(
        {
            "customer email": [f"a{i % 7}@x.org" for i in range(rows)],
            "商品": [i % 9 for i in range(rows)],
            "ts": [1_700_000_000 + i for i in range(rows)],
            "blob": [b"x"] * rows,
            "vector": [[0.5, float(i)] for i in range(rows)],
            "nested": [[{"a": i}] for i in range(rows)],
            "none": pl.Series([None] * rows, dtype=pl.Null),
            "spell": pl.Series(range(rows)).cast(pl.Duration("ms")),
            "big": pl.Series([2**63 + i for i in range(rows)], dtype=pl.UInt64),
        }
    ).write_parquet(tmp_path / "log.parquet")
    found = roles(tmp_path)
    known = {name: found.pop(name) for name in ("customer email", "商品", "ts")}
    assert known == {"customer email": "user", "商品": "item", "ts": "time"}
    assert set(found.values()) == {"left out"}
    told, (schema, _) = inspect(tmp_path, tmp_path / "work")
    assert "neither text nor numbers nor times" in told
    assert load_tables(tmp_path, schema).users["user"][0] == "a0@x.org"


def test_a_spreadsheet_s_export(tmp_path):
    """The separator told in line 1, one too many at each line's end, items by their names."""
    lines = ["sep=;", "User ID;Item Name;Event Date;Star Rating;"]
    lines += [f"U-{i % 20};Thing no. {i % 17};{1 + i % 28}.{1 + i % 12}.2023;{1 + i % 5};" for i in range(99)]  # fmt: skip  # noqa: E501
    (tmp_path / "export.csv").write_text("\r\n".join(lines))
    assert roles(tmp_path) == {
        "User ID": "user",
        "Item Name": "item",
        "Event Date": "time",
        "Star Rating": "grade",
        "column_5": "left out",
    }


def test_where_nothing_can_be_learnt_it_is_said(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(40)))
    told, _ = inspect(tmp_path, tmp_path / "work")
    assert "check: nothing looks like a user, an item or an outcome" in told


def test_files_without_a_header_are_guessed_by_their_values(tmp_path):
    log = "".join(
        f"{i * 7 % 60 + 1}::{i % 61 + 100}::{i % 5 + 1}::{978300000 + i}\n" for i in range(999)
    )
    films = "".join(
        f"{i}::Film no. {i} (1999)::{'Drama|War' if i % 2 else 'Comedy'}\n" for i in range(100, 161)
    )
    (tmp_path / "ratings.dat").write_text(log)
    (tmp_path / "movies.dat").write_text(films)
    told, (schema, _) = inspect(tmp_path, tmp_path / "work")
    assert "check: events: no header" in told
    raw = load_tables(tmp_path, schema)
    assert raw.events.select("user", "item", "column_3", "like").row(4) == ("29", "104", 5.0, 1.0)
    assert raw.items["text"][0] == "Film no. 100 (1999)"
    assert raw.items["column_3"].to_list()[:2] == [["Comedy"], ["Drama", "War"]]
