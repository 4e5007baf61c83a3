"""The port against transformers in torch, float32, highest matmul precision.

The claim is 2e-5 on the last hidden state. A wrong LayerNorm epsilon moves MiniLM's by 1.5e-4, so
a laxer bound would hide it; every kind of slip is made here on purpose and must be seen.
"""

from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is the reference (the dev extra brings it)")

import hf_models
import torch
import transformers

from mtl_jax.adapt.hf_weights import load_encoder
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.core.errors import UserError
from mtl_jax.data.packing import pack_tokens
from mtl_jax.nn.encoder import Encoder
from mtl_jax.nn.pooling import pool_rows

TOLERANCE = 2e-5

ODD = {
    "bert": ("bert", {
        "vocab_size": 101, "hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 3,
        "intermediate_size": 52, "max_position_embeddings": 23, "initializer_range": 0.02,
    }),
    "bert-wild": ("bert", {
        "vocab_size": 67, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5,
        "intermediate_size": 28, "max_position_embeddings": 19, "type_vocab_size": 3,
        "layer_norm_eps": 1e-3, "hidden_act": "gelu_new", "initializer_range": 0.3,
    }),
    "roberta": ("roberta", {
        "vocab_size": 89, "hidden_size": 44, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 60, "max_position_embeddings": 21, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "initializer_range": 0.3, "pad_token_id": 1,
    }),
    "xlm-roberta": ("xlm-roberta", {
        "vocab_size": 131, "hidden_size": 30, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 70, "max_position_embeddings": 24, "type_vocab_size": 2,
        "hidden_act": "gelu_pytorch_tanh", "initializer_range": 0.02, "pad_token_id": 3,
    }),
}  # fmt: skip
NAMES = [*ODD, "minilm"]
LENGTHS = [17, 9, 4, 1]


@cache
def loaded(name, folder):
    """(HF model, our config, our params) of one encoder."""
    if name == "minilm":
        try:
            where = minilm_folder()
        except UserError as error:
            pytest.skip(str(error))
        model = transformers.AutoModel.from_pretrained(where, attn_implementation="eager").eval()
    else:
        model_type, shape = ODD[name]
        model = hf_models.random_model(model_type, **shape)
        where = folder / name
        model.save_pretrained(where)
    return (model, *load_encoder(where))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=NAMES)
def encoder(request, folder):
    return loaded(request.param, folder)


@partial(jax.jit, static_argnames="config")
def run(config, params, ids, *args, **kwargs):
    with jax.default_matmul_precision("highest"):
        return Encoder(config).apply({"params": params}, ids, *args, **kwargs)


def texts(config, seed=0):
    """ids and mask [4, 17] of texts of LENGTHS, without the padding id inside."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int32)
    ids = rng.integers(config.pad_id + 1, config.vocab_size, mask.shape).astype(np.int32)
    return np.where(mask > 0, ids, config.pad_id).astype(np.int32), mask


def packed(ids, mask):
    """The same texts in rows of 20: pack_tokens' arrays."""
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    return pack_tokens(ids[mask > 0], offsets, np.arange(len(LENGTHS)), 20)


def run_packed(config, params, row):
    return run(
        config, params, row["ids"], segment_ids=row["segments"], position_ids=row["positions"]
    )


def error(ours, reference, kept):
    return float(np.abs(np.asarray(ours) - reference)[kept].max())


def test_padded_texts_agree(encoder):
    model, config, params = encoder
    ids, mask = texts(config)
    assert (
        error(run(config, params, ids, mask), hf_models.hf_hidden(model, ids, mask), mask > 0)
        < TOLERANCE
    )


def test_unpadded_texts_agree_with_token_types_and_padding_ids_among_them(encoder):
    model, config, params = encoder
    rng = np.random.default_rng(1)
    ids = rng.integers(0, config.vocab_size, (3, min(16, config.usable_length))).astype(np.int32)
    ids[:, 2] = config.pad_id  # RoBERTa skips it when it counts positions
    kinds = rng.integers(0, config.type_vocab, ids.shape).astype(np.int32)
    ours = run(config, params, ids, token_type_ids=kinds)
    reference = hf_models.hf_hidden(model, ids, token_type_ids=kinds)
    assert error(ours, reference, np.ones_like(ids, bool)) < TOLERANCE


def test_packed_texts_agree_with_each_text_alone(encoder):
    model, config, params = encoder
    ids, mask = texts(config)
    row = packed(ids, mask)
    ours = np.asarray(run_packed(config, params, row))
    for text, n in enumerate(LENGTHS):
        alone = hf_models.hf_hidden(model, ids[text : text + 1, :n])[0]
        assert np.abs(ours[row["owner"] == text] - alone).max() < TOLERANCE


def test_the_pooler_agrees(encoder):
    model, config, params = encoder
    ids, mask = texts(config)
    with torch.no_grad():
        reference = model(torch.tensor(ids), torch.tensor(mask)).pooler_output.numpy()
    with jax.default_matmul_precision("highest"):
        ours = pool_rows(run(config, params, ids, mask), mask, "pooler", params["pooler"])
    assert np.abs(np.asarray(ours) - reference).max() < TOLERANCE


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "padded") for name in NAMES), ("roberta", "packed"), ("minilm", "packed")],
)
def test_gradients_agree_tensor_by_tensor(name, way, folder):
    model, config, params = loaded(name, folder)
    ids, mask = texts(config)
    shape = (*ids.shape, config.width)
    cotangent = np.random.default_rng(2).normal(size=shape).astype(np.float32) * mask[..., None]
    reference = hf_models.hf_gradients(model, config, ids, mask, cotangent)
    row = packed(ids, mask)
    in_row = np.zeros((*row["ids"].shape, config.width), np.float32)
    for text, n in enumerate(LENGTHS):
        in_row[row["owner"] == text] = cotangent[text, :n]

    def loss(params):
        if way == "packed":
            return (run_packed(config, params, row) * in_row).sum()
        return (run(config, params, ids, mask) * cotangent).sum()

    ours = jax.jit(jax.grad(loss))({k: v for k, v in params.items() if k != "pooler"})
    assert_gradients_agree(ours, reference)


def assert_gradients_agree(ours, reference):
    """||delta|| <= 1e-4 max(||g||, 1e-6 of the global norm), per tensor.

    Key biases are the exception: their gradient is exactly zero in theory, and what float32 leaves
    of it (HF's own against its float64: up to 2e-8 of the global norm) is above that bound of
    1e-10, so they are held to 1e-7 of the global norm.
    """
    flat = {tuple(k.key for k in p): g for p, g in jax.tree_util.tree_leaves_with_path(ours)}
    assert set(flat) == set(reference)
    whole = np.sqrt(sum(np.linalg.norm(g) ** 2 for g in reference.values()))
    for path, g in reference.items():
        bound = 1e-4 * max(np.linalg.norm(g), 1e-6 * whole)
        if path[-2:] == ("key", "bias"):
            bound = 1e-7 * whole
        assert np.linalg.norm(np.asarray(flat[path]) - g) <= bound, path


def changed(params, path, value):
    """params with the leaf at path set to a constant."""
    if not path:
        return np.full_like(params, value)
    return {**params, path[0]: changed(params[path[0]], path[1:], value)}


@pytest.mark.parametrize("name", NAMES)
def test_dropping_any_one_bias_or_norm_weight_is_seen(name, folder):
    model, config, params = loaded(name, folder)
    params = {k: v for k, v in params.items() if k != "pooler"}
    ids, mask = texts(config)
    reference = hf_models.hf_hidden(model, ids, mask)
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        names = tuple(k.key for k in path)
        if names[-1] not in ("bias", "scale"):
            continue
        broken = changed(params, names, 0.0 if names[-1] == "bias" else 1.0)
        seen = error(run(config, broken, ids, mask), reference, mask > 0)
        if names[-2:] == ("key", "bias"):  # the same for all keys: softmax cannot feel it
            assert seen < TOLERANCE, names
        else:
            assert seen > TOLERANCE, names


# The encoders drawn with range .02 are too tame for the tanh gelu to show in them.
@pytest.mark.parametrize("name", ["bert-wild", "roberta", "minilm"])
def test_every_other_slip_is_seen_too(name, folder):
    model, config, params = loaded(name, folder)
    ids, mask = texts(config)
    reference = hf_models.hf_hidden(model, ids, mask)
    other = "gelu_new" if config.activation == "gelu" else "gelu"
    slips = {
        "mask left out": run(config, params, ids),
        "eps": run(replace(config, norm_eps=max(1e-5, 2 * config.norm_eps)), params, ids, mask),
        "gelu": run(replace(config, activation=other), params, ids, mask),
    }
    if config.positions_from_ids:
        slips["positions of BERT"] = run(replace(config, model_type="bert"), params, ids, mask)
    for slip, ours in slips.items():
        assert error(ours, reference, mask > 0) > TOLERANCE, slip


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("bert", "BertForMaskedLM"),
        ("bert", "BertForSequenceClassification"),
        ("roberta", "RobertaForMaskedLM"),
        ("xlm-roberta", "XLMRobertaForTokenClassification"),
        ("camembert", "CamembertForQuestionAnswering"),
    ],
)
def test_encoders_inside_task_models_agree(model_type, name, tmp_path):
    shape = {**ODD["bert"][1], "num_hidden_layers": 1}
    model = hf_models.random_model(model_type, 5, getattr(transformers, name), **shape)
    model.save_pretrained(tmp_path)
    config, params = load_encoder(tmp_path)
    assert config.has_pooler == (name == "BertForSequenceClassification")
    ids, mask = texts(config)
    reference = hf_models.hf_hidden(model.base_model, ids, mask)
    assert error(run(config, params, ids, mask), reference, mask > 0) < TOLERANCE
