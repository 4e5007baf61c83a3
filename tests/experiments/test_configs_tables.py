"""From a stranger's files to recommendations, with the commands of the README and nothing else."""

import json
import shutil

import pytest

from strangers import STRANGERS

TINY = [
    "encoder.folder=",  # no language model
    "train.steps=3",
    "model.width=8",
    "model.trunk_widths=(8,)",
    "model.target_attention=False",
    "model.head_width=0",
    "batch.history=4",
    "batch.size=64",
]


@pytest.fixture(scope="module")
def stranger(zygote, tmp_path_factory):
    """(script(name, *flags) in a stranger's folder, the stranger's users)."""
    base = tmp_path_factory.mktemp("stranger")
    (base / "raw").mkdir()
    users = STRANGERS["bookshop"](base / "raw")
    sets = [f"--set={change}" for change in TINY]

    def script(name, *flags, own=True):
        told = [f"--config={base / 'work' / 'config.py'}", *sets] if own else []
        return zygote.run(f"experiments.{name}", f"--workdir={base / 'work'}", *told, *flags)

    return base, script, users


def test_from_files_to_recommendations(stranger):
    base, script, users = stranger
    found = script("prepare", f"--inspect={base / 'raw'}", own=False)
    assert found.status == 0, found.output()[-3000:]
    assert (
        f"written: {base / 'work' / 'schema.toml'}, {base / 'work' / 'config.py'}" in found.output()
    )
    trained = script("train")
    assert trained.status == 0, trained.output()[-3000:]
    metrics = json.loads((base / "work" / "metrics.json").read_text())
    assert set(metrics["valid"]) == {"Bewertung", "like", "next_item"}
    served = script("recommend", f"--user={users[1]}", "--k=3", own=False)
    assert served.status == 0, served.output()[-3000:]
    items = json.loads(served.output().splitlines()[-1])["recommendations"]
    assert len(items) == 3
    assert all(item["item_id"].startswith("978-3-") for item in items)


def test_the_workdir_of_a_proposal_must_be_named(stranger, zygote):
    base, _, _ = stranger
    refused = zygote.run("experiments.prepare", f"--inspect={base / 'raw'}")
    assert refused.status == 2
    assert "needs --workdir=..., the folder for its proposal" in refused.output()


def test_a_value_that_cannot_be_read_stops_with_one_line(stranger):
    base, script, _ = stranger
    copy = base / "copy"
    shutil.copytree(base / "raw", copy)
    text = (copy / "bestellungen.csv").read_bytes().decode("cp1252")
    assert ";9,95;" in text
    (copy / "bestellungen.csv").write_bytes(text.replace(";9,95;", ";neun;", 1).encode("cp1252"))
    refused = script("prepare", f"--set=data.folder={copy}", f"--set=data.prepared={base / 'new'}")
    assert refused.status == 2
    last = refused.output().splitlines()[-1]
    assert last.startswith(f"error: {copy / 'bestellungen.csv'}, row ")
    assert "column 'Preis' ([events]): 'neun' is not a number (1 such rows of 500)" in last
