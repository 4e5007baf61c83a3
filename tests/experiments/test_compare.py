"""Multi-task against single-task: two tasks, two balancers, two seeds, six steps."""

import html.parser
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from experiments.comparison import page, show
from mtl_jax.data.pipeline import rows_of
from mtl_jax.metrics.significance import holm
from worlds import assembler_of, world_data

pytestmark = pytest.mark.soak  # twelve trainings, each compiled: minutes

SMALL = """
from dataclasses import replace
from tiny_config import get_config as tiny
def get_config():
    config = tiny()
    train = replace(config.train, steps=6, checkpoint_every=0)
    return replace(config, tasks=config.tasks[:2], train=train)
"""
BALANCERS = ("ew", "uw")
RUNS = ["alone/click", "alone/rating", "shared_bottom/ew", "shared_bottom/uw"]


@dataclass(frozen=True)
class Compared:
    workdir: Path
    flags: list[str]
    output: str

    @property
    def records(self):
        return [json.loads(line) for line in self.lines.splitlines()]

    @property
    def lines(self):
        return (self.workdir / "compare.jsonl").read_text()

    @property
    def page(self):
        return (self.workdir / "compare.html").read_text()

    def kind(self, kind, **wanted):
        return show.of_kind(self.records, kind, **wanted)


@pytest.fixture(scope="module")
def compared(zygote, shared_folder, tmp_path_factory):
    """A comparison that has run to its end."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "small.py").write_text(SMALL)
    data = world_data(shared_folder).folder
    flags = [f"--config={folder / 'small.py'}", f"--workdir={folder / 'run'}"]
    flags += [f"--set=data.prepared={data}", "--trunk=shared_bottom"]
    flags += [f"--balance={name}" for name in BALANCERS]
    process = zygote.run("experiments.compare", *flags, "--seeds=2")
    assert process.status == 0, process.output()[-5000:]
    return Compared(folder / "run", flags, process.output())


class Tables(html.parser.HTMLParser):
    """{class of a table: its rows of cells}."""

    def __init__(self, text):
        super().__init__()
        self.found, self.cell, self.name = {}, None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.name = dict(attrs)["class"]
            self.found[self.name] = []
        elif tag == "tr":
            self.found[self.name].append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.found[self.name][-1].append(self.cell)
            self.cell = None


def test_every_run_took_the_same_steps_on_the_same_batches(compared):
    runs = compared.kind("run")
    assert len(runs) == 2 * (2 + 2 + 2), "seeds times twins of both kinds and combinations"
    for run in runs:
        meta = json.loads(
            (next(Path(run["folder"]).glob("checkpoints/6/meta/metadata"))).read_text()
        )
        assert meta["step"] == 6
        assert meta["config"]["train"]["eval_part"] == ""
        same = next(r for r in runs if (r["run"], r["seed"]) == ("shared_bottom/ew", run["seed"]))
        other = json.loads(
            next(Path(same["folder"]).glob("checkpoints/6/meta/metadata")).read_text()
        )
        assert meta["pipeline"]["rows"] == other["pipeline"]["rows"]
        assert meta["pipeline"]["seed"] == run["seed"]


def test_the_page_needs_nothing_else(compared):
    found = re.findall(
        r"https?:|//[a-z]|<script|<link|<img|@import|url\(|\ssrc=|\shref=", compared.page
    )
    assert not found
    assert "svg" in compared.page


def test_drawings_are_well_formed(compared):
    drawings = re.findall(r"<svg.*?</svg>", compared.page, re.DOTALL)
    assert len(drawings) > 3
    for drawing in drawings:
        assert "nan" not in drawing
        ElementTree.fromstring(drawing)


@pytest.mark.parametrize("which", ["same_width", "same_parameters"])
def test_the_table_shows_the_numbers_of_the_lines(compared, which):
    table = Tables(compared.page).found[f"rows {which}"]
    rows = compared.kind("row", twin=which)
    assert len(rows) == 4
    assert [tuple(cells) for cells in table[1:]] == [show.row_cells(row) for row in rows]
    for cells, row in zip(table[1:], rows, strict=True):
        assert cells[3:6] == [
            f"{row['value']:.4f}", f"{row['twin_value']:.4f}", f"{row['difference']:+.4f}",
        ]  # fmt: skip
        assert cells[6] == f"{row['seeds_low']:+.4f} to {row['seeds_high']:+.4f}"
        assert cells[8] == f"{row['users_low']:+.4f} to {row['users_high']:+.4f}"


def test_all_runs_are_in_the_page_and_the_terminal_tells_the_differences(compared):
    runs = Tables(compared.page).found["runs"][1:]
    assert [cells[0] for cells in runs] == [run["run"] for run in compared.kind("run")]
    for row in compared.kind("row"):
        assert show.signed(row["difference"]) in compared.output


def test_differences_are_those_of_the_kept_predictions(compared, shared_folder):
    data = world_data(shared_folder)
    index = rows_of(assembler_of(data), "valid")
    y = np.asarray(data.events["label_click"][index], float)
    known = np.isfinite(y)
    value = {}
    for run in compared.kind("run"):
        with np.load(Path(run["folder"]) / "values_valid.npz") as kept:
            if "click" in kept.files:
                value[run["run"], run["seed"]] = roc_auc_score(y[known], kept["click"])
                np.testing.assert_allclose(value[run["run"], run["seed"]], run["values"]["click"])
    for balancer in BALANCERS:
        row = compared.kind("row", twin="same_width", balance=balancer, task="click")[0]
        ours, theirs = (
            [value[name, seed] for seed in (0, 1)]
            for name in (f"shared_bottom/{balancer}", "alone/click")
        )
        test = stats.ttest_rel(ours, theirs)
        low, high = test.confidence_interval(0.95)
        np.testing.assert_allclose(
            [row[k] for k in ("value", "twin_value", "difference", "seeds_low", "seeds_high")],
            [np.mean(ours), np.mean(theirs), np.mean(ours) - np.mean(theirs), low, high],
        )
        np.testing.assert_allclose(row["seeds_p"], test.pvalue)
        assert row["p"] == max(row["seeds_p"], row["users_p"])


@pytest.mark.parametrize("which", ["same_width", "same_parameters"])
def test_holm_is_over_the_whole_table_of_a_twin(compared, which):
    rows = compared.kind("row", twin=which)
    assert [row["p_holm"] for row in rows] == holm([row["p"] for row in rows])


def test_delta_m_is_the_mean_of_the_tasks_changes(compared):
    for which in ("same_width", "same_parameters"):
        for summary in compared.kind("summary", twin=which):
            twins = {t["task"]: t["for_trunks"] for t in compared.kind("twin", twin=which)}
            assert twins == {"click": ["shared_bottom"], "rating": ["shared_bottom"]}
            runs = {(r["run"], r["seed"]): r["values"] for r in compared.kind("run")}
            folder = {r["which"]: r["run"].split("/")[0] for r in compared.kind("run")}
            each = []
            for seed in (0, 1):
                ours = runs[f"shared_bottom/{summary['balance']}", seed]
                auc = runs[f"{folder[which]}/click", seed]["click"]
                rmse = runs[f"{folder[which]}/rating", seed]["rating"]
                each.append((ours["click"] / auc - 1 + 1 - ours["rating"] / rmse) / 2 * 100)
            np.testing.assert_allclose(summary["delta_m"], np.mean(each))


def test_twins_have_together_as_many_parameters_as_they_should(compared):
    head = compared.kind("comparison")[0]
    matched = head["matched"]["shared_bottom"]
    ours = {r["heads"] for r in compared.kind("run") if r["which"] == "together"}
    assert ours == {matched["wanted"]}
    twins = compared.kind("twin", twin="same_parameters")
    assert sum(t["heads"] for t in twins) == matched["found"]
    assert abs(matched["found"] / matched["wanted"] - 1) < 0.15
    assert all(t["trunk_widths"] == matched["widths"] for t in twins)
    wide = compared.kind("twin", twin="same_width")
    assert sum(t["heads"] for t in wide) > matched["wanted"]
    assert str(matched["found"]) in compared.page.replace(",", "")


def test_a_second_start_trains_nothing(compared, zygote):
    def state():
        files = sorted(p for p in (compared.workdir / "runs").rglob("*") if p.is_file())
        return {str(p): p.stat().st_mtime_ns for p in files}

    before, lines, text = state(), compared.lines, compared.page
    process = zygote.run("experiments.compare", *compared.flags, "--seeds=2")
    assert process.status == 0, process.output()[-3000:]
    assert state() == before
    assert "compiling" in compared.output
    assert "compiling" not in process.output()
    assert (compared.lines, compared.page) == (lines, text)


def test_an_interrupted_run_goes_on_and_the_others_are_left_alone(compared, zygote):
    folder = compared.workdir / "runs" / "shared_bottom" / "uw" / "seed_1"
    values = (folder / "values_valid.npz").read_bytes()
    lines = compared.kind("run")
    (folder / "run.json").unlink()
    (folder / "values_valid.npz").unlink()
    others = {p: p.stat().st_mtime_ns for p in (compared.workdir / "runs").rglob("*.npz")}
    process = zygote.run("experiments.compare", *compared.flags, "--seeds=2")
    assert process.status == 0, process.output()[-3000:]
    assert process.output().count("resuming from step 6 of 6") == 1
    assert (folder / "values_valid.npz").read_bytes() == values
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert compared.kind("run") == lines


def test_one_seed_has_dashes_and_says_so(compared, zygote, tmp_path):
    kept = {
        name: (compared.workdir / name).read_text() for name in ("compare.jsonl", "compare.html")
    }
    process = zygote.run("experiments.compare", *compared.flags, "--seeds=1")
    assert process.status == 0, process.output()[-3000:]
    assert "compiling" not in process.output()
    rows = compared.kind("row")
    assert {row["seeds_low"] for row in rows} == {None}
    assert all(row["users_low"] is not None and row["p"] == row["users_p"] for row in rows)
    cells = Tables(compared.page).found["rows same_width"][1]
    assert cells[6:8] == ["-", "-"]
    assert "One seed:" in compared.page
    assert "One seed:" not in kept["compare.html"]
    for name, text in kept.items():
        (compared.workdir / name).write_text(text)


def test_another_configuration_in_the_same_folder_is_refused(compared, zygote):
    before = compared.page
    process = zygote.run("experiments.compare", *compared.flags, "--set=optim.warmup=3")
    assert process.status == 2
    told = process.output().splitlines()[-1]
    assert "optim.warmup was 5, is 3" in told
    assert "seed_0" in told
    assert compared.page == before


def test_gradients_that_were_measured_are_drawn(compared):
    found = compared.records
    assert "Nothing was measured" in compared.page
    for record in found:
        if record["kind"] == "telemetry" and record["balance"] == "uw":
            record["cosine"] = {"click|rating": -0.2574}
            record["conflict"] = [0.0, None, 1.0, 0.5, 0.25, 0.0]
            record["steps"] = [1, 2, 3, 4, 5, 6]
    text = page.render(found)
    assert "click, rating: -0.257" in text
    assert "Nothing was measured for shared_bottom · ew" in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_harm_is_marked(compared):
    found = compared.records
    row = next(r for r in found if r["kind"] == "row")
    row["verdict"] = "worse"
    text = page.render(found)
    assert text.count("<b>1</b> significantly worse") == 1
    assert '<td class="n worse"' in text
    assert '<td class="n worse"' not in compared.page
    assert Tables(text).found["rows same_width"][1][-1] == "▼ worse"


def test_names_are_escaped(compared):
    found = [replace_names(r) for r in compared.records]
    text = page.render(found)
    assert "<b>click" not in text
    assert "&lt;b&gt;click" in text


def replace_names(record):
    return json.loads(json.dumps(record).replace('"click"', '"<b>click"'))
