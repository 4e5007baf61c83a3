"""The prepared data of the tiny run, and assemblers over it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mtl_jax.adapt.families import FAMILIES
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.assemble import Assembler, TextSource
from mtl_jax.data.config import DataConfig
from mtl_jax.data.prepare import prepare, prepare_raw
from mtl_jax.data.prepared import Prepared, open_prepared
from mtl_jax.data.schema import Label
from runs import locked
from tiny_config import get_config

sys.path.append(str(Path(__file__).parent / "data"))
from tiny import make_raw


def world_data(shared: Path) -> Prepared:
    """The same folder that the tiny run is trained on; prepared once a session."""
    config = replace(get_config().data, prepared=str(shared / "prepared"))
    with locked(shared / "tiny.lock"):
        return open_prepared(prepare(config))


def assembler_of(
    data: Prepared,
    tasks: tuple[TaskSpec, ...] | None = None,
    text: TextSource | None = None,
    **batch: int,
) -> Assembler:
    config = get_config()
    return Assembler(
        data, tasks or config.tasks, replace(config.batch, **batch), text or TextSource()
    )


def small_data(
    folder: Path, labels: tuple[Label, ...] = (), pair: bool = False, **events: pl.Expr
) -> Prepared:
    """The tables of data/tiny.py, which have every kind of column, and tokens of their texts.

    labels: more labels than those.  pair: each text is the pair of title and description.
    events: columns of the events to be set.
    """
    raw = make_raw(events=240)
    columns = replace(raw.columns, labels=raw.columns.labels + labels)
    raw = replace(raw, columns=columns, events=raw.events.with_columns(**events))
    tokenizer = write_tokenizer(folder / "encoder")
    config = DataConfig(
        source="tiny",
        prepared=str(folder / "prepared"),
        template="{title}" if pair else "{title} {description}",
        template_pair="{description}" if pair else "",
        tokenizer=str(tokenizer),
        max_tokens=12,
        valid_fraction=0.2,
        test_fraction=0.1,
    )
    return open_prepared(prepare_raw(raw, config))


def write_tokenizer(folder: Path) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Thing", "made", "of", "stuff"]
    words += [str(n) for n in range(13)]
    found = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    found.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    found.save(str(folder / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder


def write_encoder(folder: Path, vocab: int = 21, layers: int = 2) -> Path:
    """A BERT of `layers`, eight wide, with random weights and no zero bias, as a HF folder."""
    raw = {
        "model_type": "bert",
        "vocab_size": vocab,
        "hidden_size": 8,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    family = FAMILIES["bert"]
    rng = np.random.default_rng(0)
    tensors = {
        e.name: rng.normal(float("LayerNorm.weight" in e.name), 0.3, e.shape).astype(np.float32)
        for e in family.entries(family.config(raw, "bert"))
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    save_file(tensors, folder / "model.safetensors")
    return folder
