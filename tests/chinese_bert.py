"""A small BERT that reads Chinese characters: a vocabulary of them, and random weights."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mtl_jax.adapt.families import FAMILIES

CHARACTERS = "房间大很好太差快送餐慢味道服务态度不错酒店干净难吃香热冷了的是在也都，。！"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_chinese_bert(folder: Path) -> Path:
    """A Hugging Face folder with vocab.txt (WordPiece, one character each) and weights."""
    folder.mkdir(parents=True)
    words = [*SPECIAL, *dict.fromkeys(CHARACTERS), "a", "##a"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    told = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "tokenize_chinese_chars": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    config = {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    tensors = {}
    for entry in FAMILIES["bert"].entries(FAMILIES["bert"].config(config, "bert")):
        scale = 1.0 if "LayerNorm.weight" in entry.name else 0.0
        tensors[entry.name] = (scale + rng.normal(0, 0.1, entry.shape)).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder
