"""The shipped configurations: what they name is there, and those that need a folder say which."""

import json
from pathlib import Path

import numpy as np
import pytest

from chinese_bert import write_chinese_bert
from mtl_jax.config import from_dict, load, to_dict
from mtl_jax.core.errors import UserError
from mtl_jax.data.sources import SOURCES
from mtl_jax.job import prepare_data

CONFIGS = Path(__file__).resolve().parents[2] / "experiments" / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_every_config_names_a_source_and_comes_back_from_json(name):
    config = load(str(CONFIGS / f"{name}.py"))
    assert config.data.source in SOURCES
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    if config.train.monitor:
        assert config.train.monitor.split("/")[0] in [task.name for task in config.tasks]


def reviews(folder):
    """Sixty short reviews, praise and complaint by turns."""
    folder.mkdir()
    praise, complaint = (
        "\u623f\u95f4\u5f88\u5927\uff0c\u4e0d\u9519",
        "\u592a\u5dee\u4e86\uff0c\u9001\u9910\u6162",
    )
    rows = [f"{i % 2},{praise if i % 2 else complaint}{chr(0x4E00 + i)}" for i in range(60)]
    (folder / "waimai_10k.csv").write_text("\n".join(["label,review", *rows]), encoding="utf-8")
    return folder


def chinese(folder, encoder, *more):
    sets = [f"data.folder={folder}", f"encoder.folder={encoder}", "data.max_tokens=32", *more]
    return load(str(CONFIGS / "zh_reviews.py"), sets)


def test_chinese_reviews_are_cut_into_characters(tmp_path):
    encoder = write_chinese_bert(tmp_path / "bert")
    data = prepare_data(chinese(reviews(tmp_path / "raw"), encoder), tmp_path / "run")
    words = (encoder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    start, stop = data.items["token_offsets"][1:3]
    tokens = [words[i] for i in data.items["tokens"][start:stop]]
    assert tokens == ["[CLS]", *"\u592a\u5dee\u4e86\uff0c\u9001\u9910\u6162", "[UNK]", "[SEP]"]
    assert [len(data.part(code)) for code in (0, 1, 2)] == [48, 6, 6]
    assert [float(np.mean(data.events["label_sentiment"][data.part(c)])) for c in (0, 1, 2)] == [
        0.5
    ] * 3


def test_without_an_encoder_the_files_that_are_needed_are_told(tmp_path):
    config = load(str(CONFIGS / "zh_reviews.py"), [f"data.folder={reviews(tmp_path / 'raw')}"])
    wanted = (
        r"'bert-base-chinese' is not a folder.*config\.json, model\.safetensors, and .*vocab\.txt"
    )
    with pytest.raises(UserError, match=wanted):
        prepare_data(config, tmp_path / "run")


@pytest.mark.soak
def test_chinese_reviews_train(zygote, tmp_path):
    encoder, raw = write_chinese_bert(tmp_path / "bert"), reviews(tmp_path / "raw")
    small = ["train.steps=2", "batch.size=16", "model.width=8", "model.trunk_widths=(8,)"]
    small += ["encoder.train_layers=1", "model.head_width=0"]
    sets = [f"data.folder={raw}", f"encoder.folder={encoder}", "data.max_tokens=32", *small]
    process = zygote.run(
        "experiments.train",
        f"--config={CONFIGS / 'zh_reviews.py'}",
        f"--workdir={tmp_path / 'run'}",
        *(f"--set={change}" for change in sets),
    )
    assert process.status == 0, process.output()[-3000:]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["valid"]["sentiment"]["all"]["auc"]["rows"] == 6
