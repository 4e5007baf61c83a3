"""Malformed files, schemas and settings: refused by name, or treated and recorded; never half done.

A valid folder (a log and a catalogue as CSV, JSON lines or Parquet, and their schema file) is
spoilt in one to three ways and prepared. `make soak` tries 10,000; `make test` a sample.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtl_jax.config import load
from mtl_jax.core.errors import UserError
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.sources.read import parquet_frame

TINY = str(Path(__file__).parents[1] / "tiny_config.py")
LOG = [
    {
        "uid": "abcde"[i % 5],
        "sku": f"x{i * 7 % 6}",
        "ts": 1_000_000 + 5_000 * (i // 2),
        "action": ("view", "buy", "cart")[i % 3],
        "stars": None if i % 4 == 0 else 1 + i % 5,
        "device": "ios" if i % 2 else "web",
    }
    for i in range(40)
]
ITEMS = [
    {"sku": f"x{i}", "title": f"Lamp, {i}", "kind": "ab"[i % 2], "labels": "p|q", "price": i + 0.5}
    for i in range(6)
]
SCHEMA = """
[events]
files = "log.{0}"
user = "uid"
item = "sku"
time = "ts"
time_format = "s"
context = ["device"]
positive = "bought"

[labels.bought]
column = "action"
one_of = ["buy", "cart"]

[labels.stars]
column = "stars"
kind = "value"
low = 1
high = 5

[items]
files = "items.{0}"
text = ["title"]
template = "{{title}} ({{kind}})"
category = "kind"
tags = "labels"
dense = ["price"]
"""
NASTY = (
    "", " ", "-1", "0", "1e400", "nan", "inf", "99999999999999999999", "2020-13-45", "true", "\x00",
    '"', "'", "é", "\u202e", "a,b", "[1]", "{}", "null", "-", "1.5", "x" * 300, "1970-01-01",
)  # fmt: skip
SETTINGS = (
    "data.split", "data.valid_fraction", "data.test_fraction", "data.folds", "data.fold",
    "data.template", "data.history", "data.stratify", "data.statistics.keys", "data.max_tokens",
    "data.fitted.bot_events", "data.fitted.buckets", "data.statistics.folds", "data.valid_from",
    "tasks.click.weight", "tasks.nothing.weight", "model.width", "train.steps", "batch.size",
    "optim.learning_rate", "nothing", "data", "data.nothing", "encoder.folder", "tasks",
)  # fmt: skip


def write(folder: Path, kind: str) -> None:
    """A valid folder."""
    for name, rows in (("log", LOG), ("items", ITEMS)):
        path, frame = folder / f"{name}.{kind}", pl.DataFrame(rows)
        if kind == "csv":
            frame.write_csv(path)
        elif kind == "parquet":
            frame.write_parquet(path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "schema.toml").write_text(SCHEMA.format(kind))


def spoil_bytes(data: st.DataObject, path: Path) -> None:
    """Bytes set, cut off, doubled or put in."""
    text = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, max(len(text) - 1, 0)))
    how = data.draw(st.sampled_from(["set", "cut", "double", "insert", "empty"]))
    if how == "set" and text:
        text[at] = data.draw(st.integers(0, 255))
    elif how == "cut":
        del text[at:]
    elif how == "double":
        text += text[at:]
    elif how == "insert":
        text[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    else:
        text.clear()
    path.write_bytes(bytes(text))


def spoil_lines(data: st.DataObject, path: Path) -> None:
    """A line lost, doubled, swapped, or a field of one set to something nasty."""
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["lose", "double", "swap", "field", "field", "field"]))
    if how == "lose":
        del lines[at]
    elif how == "double":
        lines.insert(at, lines[at])
    elif how == "swap":
        lines[0], lines[at] = lines[at], lines[0]
    else:
        mark = " = " if path.suffix == ".toml" else ","
        fields = lines[at].split(mark)
        place = data.draw(st.integers(0, len(fields) - 1))
        fields[place] = data.draw(st.sampled_from(NASTY))
        lines[at] = mark.join(fields)
    path.write_text("\n".join(lines))


def spoil_table(data: st.DataObject, path: Path) -> None:
    """A Parquet column lost, renamed, emptied, or of another type."""
    try:
        frame = parquet_frame(path, path)
    except UserError:
        return
    name = data.draw(st.sampled_from(frame.columns))
    how = data.draw(st.sampled_from(["lose", "rename", "null", "text", "list", "bytes", "head"]))
    column = pl.col(name)
    changes: dict[str, Callable[[], pl.DataFrame]] = {
        "lose": lambda: frame.drop(name),
        "rename": lambda: frame.rename({name: "other"}) if "other" not in frame.columns else frame,
        "null": lambda: frame.with_columns(pl.lit(None).alias(name)),
        "text": lambda: frame.with_columns(pl.lit(data.draw(st.sampled_from(NASTY))).alias(name)),
        "list": lambda: frame.with_columns(pl.concat_list(column).alias(name)),
        "bytes": lambda: frame.with_columns(pl.lit(b"\xff\x00").alias(name)),
        "head": lambda: frame.head(data.draw(st.integers(0, 3))),
    }
    try:
        changed = changes[how]()
    except pl.exceptions.PolarsError:
        return
    changed.write_parquet(path)


def spoil(data: st.DataObject, folder: Path) -> None:
    """One fault in one file of the folder."""
    paths = sorted(folder.iterdir())
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    if data.draw(st.integers(0, 19)) == 0:
        path.unlink()
    elif path.suffix == ".parquet":
        data.draw(st.sampled_from([spoil_bytes, spoil_table, spoil_table]))(data, path)
    else:
        data.draw(st.sampled_from([spoil_bytes, spoil_lines, spoil_lines]))(data, path)


SEEN: Counter[str] = Counter()


def check_files(data: st.DataObject) -> None:
    """Prepares a spoilt folder: whole or not at all, and refusals say where."""
    kind = data.draw(st.sampled_from(["csv", "jsonl", "parquet"]))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as tmp:
        folder, target = Path(tmp) / "raw", Path(tmp) / "out" / "prepared"
        folder.mkdir()
        write(folder, kind)
        for _ in range(data.draw(st.integers(1, 3))):
            spoil(data, folder)
        statistics = StatisticsConfig(keys=("user", "item"), history=False)
        config = DataConfig(
            source="tables",
            folder=str(folder),
            prepared=str(target),
            template="{title}",
            statistics=statistics,
        )
        try:
            prepare(config)
        except UserError as error:
            told = str(error)
            assert not target.exists()
            named = [f".{kind}", "schema", "log", "items", "data.", "events"]
            assert any(name in told for name in named), told
            assert len(told) < 3000
            SEEN["refused"] += 1
        else:
            prepared = open_prepared(target)
            assert len(prepared.part(0)) > 0
            rules = {rule["rule"] for rule in prepared.manifest["report"]["rules"]}
            assert {"missing", "duplicate event"} <= rules
            SEEN["prepared"] += 1
        left = [path.name for path in target.parent.iterdir()] if target.parent.exists() else []
        assert set(left) <= {"prepared"}, left


def check_settings(data: st.DataObject) -> None:
    """Overrides of all kinds: a Config, or a refusal that repeats the flag."""
    values = st.one_of(st.sampled_from(NASTY), st.text(max_size=12), st.integers().map(str))
    path = data.draw(st.one_of(st.sampled_from(SETTINGS), st.text(max_size=12)))
    flag = f"{path}={data.draw(values)}"
    told = ""
    try:
        load(TINY, [flag])
    except UserError as error:
        told = str(error)
    assert not told or f"--set={flag}" in told or "tasks" in told, told
    SEEN["setting refused" if told else "setting taken"] += 1


def run(check: Callable[[st.DataObject], None], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def tried(data: st.DataObject) -> None:
        check(data)

    tried()


def test_the_folder_is_fine_unspoilt(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        write(folder, kind)
        config = DataConfig(source="tables", folder=str(folder), template="{title}")
        data = open_prepared(prepare(replace(config, prepared=str(tmp_path / f"p-{kind}"))))
        assert len(data.events["row"]) == 40
        assert data.schema.labels[0].name == "bought"


@pytest.mark.parametrize(("check", "examples"), [(check_files, 60), (check_settings, 300)])
def test_spoilt(check: Any, examples: int) -> None:
    run(check, examples)


@pytest.mark.soak
@pytest.mark.parametrize(("check", "examples"), [(check_files, 10_000), (check_settings, 10_000)])
def test_spoilt_many_times(check: Any, examples: int) -> None:
    SEEN.clear()
    run(check, examples)
    print(dict(SEEN))
