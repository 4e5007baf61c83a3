from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.clean import FLAGS, clean
from mtl_jax.data.report import count_labels
from mtl_jax.data.schema import Label, RawData

LATEST = 2_000_000_000


def set_row(frame: pl.DataFrame, row: int, **values: object) -> pl.DataFrame:
    """The frame with some cells of one row changed."""
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def test_clean_data_stay_as_they_are(raw: RawData) -> None:
    cleaned = clean(raw, LATEST)
    assert all(r.dropped == r.flagged == r.repaired == 0 for r in cleaned.report.rules)
    assert cleaned.raw.events.drop("row", "flag").equals(raw.events)
    assert cleaned.raw.events["row"].to_list() == list(range(raw.events.height))


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("missing", {"user": None}),
        ("missing", {"item": ""}),
        ("missing", {"time": None}),
        ("impossible time", {"time": 0}),
        ("impossible time", {"time": LATEST + 1}),
        ("unknown item", {"item": "nowhere"}),
    ],
)
@pytest.mark.parametrize("part", [None, 0, 1, 2])
def test_bad_rows_are_dropped_or_flagged(
    raw: RawData, rule: str, values: dict[str, object], part: int | None
) -> None:
    events = set_row(raw.events, 5, **values)
    if part is not None:
        events = events.with_columns(split=pl.lit(part))
    cleaned = clean(replace(raw, events=events), LATEST)
    found = cleaned.report.count(rule)
    assert "row 6:" in found.examples[0]
    if part in (None, 0):
        assert (found.dropped, found.flagged) == (1, 0)
        assert 5 not in cleaned.raw.events["row"].to_list()
    else:
        assert (found.dropped, found.flagged) == (0, 1)
        assert cleaned.raw.events["flag"].to_list()[5] == FLAGS[rule]
        assert cleaned.raw.events.height == raw.events.height


def test_the_latest_time_itself_is_possible(raw: RawData) -> None:
    events = set_row(raw.events, 5, time=LATEST)
    assert clean(replace(raw, events=events), LATEST).report.count("impossible time").dropped == 0


def test_the_clock_is_the_default_limit(raw: RawData) -> None:
    events = set_row(raw.events, 5, time=10**11)
    assert clean(replace(raw, events=events)).report.count("impossible time").dropped == 1


def test_duplicate_events_keep_the_first(raw: RawData) -> None:
    events = pl.concat([raw.events, raw.events[3:5]])
    cleaned = clean(replace(raw, events=events), LATEST)
    assert cleaned.report.count("duplicate event").dropped == 2
    assert cleaned.raw.events.height == raw.events.height


def test_duplicate_items_keep_the_first(raw: RawData) -> None:
    again = raw.items[2:3].with_columns(title=pl.lit("another"))
    cleaned = clean(replace(raw, items=pl.concat([raw.items, again])), LATEST)
    assert cleaned.report.count("duplicate items").dropped == 1
    assert cleaned.raw.items.filter(pl.col("item") == "i2")["title"].to_list() == ["Thing 2"]


def test_a_label_out_of_range_becomes_missing(raw: RawData) -> None:
    events = set_row(set_row(raw.events, 4, rating=5.5), 6, click=2.0)
    events = set_row(events, 8, rating=float("inf"))
    cleaned = clean(replace(raw, events=events), LATEST)
    assert cleaned.report.count("label rating out of range").repaired == 2
    assert cleaned.report.count("label click out of range").repaired == 1
    assert cleaned.raw.events["rating"].to_list()[4] is None
    assert cleaned.raw.events["click"].to_list()[6] is None
    assert cleaned.raw.events.height == raw.events.height


def test_text_is_stripped(raw: RawData) -> None:
    cleaned = clean(replace(raw, items=set_row(raw.items, 1, title="  Thing \n")), LATEST)
    assert cleaned.raw.items["title"].to_list()[1] == "Thing"
    assert cleaned.report.count("text with outer blanks or missing").repaired == 1


def test_users_without_a_profile_are_counted(raw: RawData) -> None:
    cleaned = clean(replace(raw, users=raw.users.head(0)), LATEST)
    assert cleaned.report.count("users without a profile").repaired == raw.events.height


@pytest.mark.parametrize("table", ["events", "items"])
def test_an_empty_table_is_refused(raw: RawData, table: str) -> None:
    empty = replace(raw, **{table: getattr(raw, table).head(0)})
    with pytest.raises(UserError, match=f"tiny: {table}: the table is empty"):
        clean(empty, LATEST)


@pytest.mark.parametrize(
    ("table", "column"), [("events", "rating"), ("items", "tags"), ("users", "gender")]
)
def test_a_missing_column_is_named(raw: RawData, table: str, column: str) -> None:
    with pytest.raises(UserError, match=f"{table}: column '{column}' is missing"):
        clean(replace(raw, **{table: getattr(raw, table).drop(column)}), LATEST)


def test_a_wrong_type_is_named_with_its_row(with_events: Callable[..., RawData]) -> None:
    changed = with_events(rating=pl.col("rating").cast(pl.String))
    events = set_row(changed.events, 16, rating="good")
    with pytest.raises(UserError, match=r"'rating', row 17 .*'good' is not a number"):
        clean(replace(changed, events=events), LATEST)


def test_a_fraction_is_no_time(with_events: Callable[..., RawData]) -> None:
    half = with_events(time=pl.col("time").cast(pl.Float64) + 0.5)
    with pytest.raises(UserError, match=r"'time', row 1 .*not a whole number"):
        clean(half, LATEST)
    text = with_events(time=(pl.col("time").cast(pl.Float64) + 0.5).cast(pl.String))
    with pytest.raises(UserError, match=r"'time', row 1 .*not a whole number"):
        clean(text, LATEST)


def test_a_wrong_part_is_named_with_its_row(with_events: Callable[..., RawData]) -> None:
    with pytest.raises(UserError, match=r"'split', row 1 .*3 is not 0"):
        clean(with_events(split=pl.lit(3)), LATEST)


def test_nothing_left_is_refused(with_events: Callable[..., RawData]) -> None:
    with pytest.raises(UserError, match="left no events"):
        clean(with_events(item=pl.lit("nowhere")), LATEST)


def test_a_positive_that_is_no_binary_label_is_refused(raw: RawData) -> None:
    with pytest.raises(UserError, match="'rating' is not one of the binary labels"):
        clean(replace(raw, columns=replace(raw.columns, positive="rating")), LATEST)


def test_labels_that_cannot_teach_are_noted() -> None:
    values = {"all": np.ones(4), "none": np.full(4, np.nan), "some": np.array([0, 1, 0, np.nan])}
    labels = [Label(name, "binary") for name in values]
    counts = count_labels(labels, values, np.array([0, 0, 0, 1]))
    notes = {(c.label, c.part): c.note for c in counts}
    assert "one class only (1)" in notes["all", "train"]
    assert "no values" in notes["none", "train"]
    assert notes["some", "train"] == ""
    assert "no values" in notes["some", "valid"]


def test_the_report_is_readable(raw: RawData) -> None:
    page = clean(replace(raw, events=set_row(raw.events, 5, item="nowhere")), LATEST).report
    assert "| unknown item |" in page.to_markdown()
    assert "item='nowhere'" in page.to_markdown()


def test_an_unknown_other_item_is_an_unknown_item_and_pairs_are_no_duplicates(with_events):
    other = pl.int_range(pl.len()) % 4
    raw = with_events(
        other=pl.when(other == 0)
        .then(None)
        .when(other == 1)
        .then(pl.lit("gone"))
        .otherwise(pl.lit("i1"))
    )
    again = raw.events.with_columns(other=pl.lit("i2"))
    found = clean(replace(raw, events=pl.concat([raw.events, again])))
    assert set(found.raw.events["other"].unique()) == {None, "i1", "i2"}
    gone = int((raw.events["other"] == "gone").sum())
    assert gone > 0
    rules = {rule.rule: rule for rule in found.report.rules}
    assert rules["unknown item"].dropped == gone
    assert rules["duplicate event"].dropped == 0
    assert "time and other" in rules["duplicate event"].treatment
