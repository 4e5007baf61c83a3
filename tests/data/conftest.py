"""Fixtures of data/: small tables and a configuration for them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import make_raw
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.schema import RawData

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "shoe", "hat", "new"]


@pytest.fixture
def raw() -> RawData:
    return make_raw()


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return DataConfig(
        source="tiny",
        prepared=str(tmp_path / "prepared"),
        valid_fraction=0.2,
        test_fraction=0.1,
        statistics=StatisticsConfig(keys=(*StatisticsConfig().keys, "item*context", "profile")),
    )


@pytest.fixture
def with_events(raw: RawData) -> Callable[..., RawData]:
    """The tiny tables with some event columns set: with_events(time=..., click=...)."""

    def change(**columns: Any) -> RawData:
        return replace(raw, events=raw.events.with_columns(**columns))

    return change


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of nine words, saved as Hugging Face folders are."""
    path = tmp_path_factory.mktemp("tokenizer")
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    words.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    # As sentence-transformers saves it: what the file says of cutting and padding must not count.
    words.enable_truncation(4)
    words.enable_padding(length=4)
    words.save(str(path / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    (path / "tokenizer_config.json").write_text(json.dumps(told))
    return path
