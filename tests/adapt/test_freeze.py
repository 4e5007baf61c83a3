import jax
import numpy as np
import pytest

from mtl_jax.adapt.freeze import find_cut, merge_params, split_params
from mtl_jax.core.errors import UserError
from mtl_jax.nn.encoder import Encoder, EncoderConfig, init_params

CONFIG = EncoderConfig(
    "bert", 20, width=8, layers=12, heads=2, ffn=8, max_positions=6, has_pooler=True
)
NAMES = {"embeddings", "pooler", *(f"layer_{n}" for n in range(12))}
PARAMS = {name: {"bias": np.zeros(1)} for name in NAMES}


@pytest.mark.parametrize(
    ("train_layers", "layer", "trains"),
    [
        ("all", None, NAMES),
        (-1, None, NAMES),
        (0, 12, set()),
        (1, 11, {"layer_11", "pooler"}),
        (3, 9, {"layer_9", "layer_10", "layer_11", "pooler"}),
        (12, 0, NAMES - {"embeddings"}),
    ],
)
def test_the_policies(train_layers, layer, trains):
    assert find_cut(CONFIG, train_layers).layer == layer
    frozen, trainable = split_params(CONFIG, PARAMS, train_layers)
    assert set(trainable) == trains
    assert set(frozen) == NAMES - trains
    assert merge_params(frozen, trainable) == PARAMS


@pytest.mark.parametrize("wrong", [13, -2, "top", 1.5, True])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match="train_layers"):
        split_params(CONFIG, PARAMS, wrong)


def test_nothing_is_in_both_parts():
    with pytest.raises(UserError, match="layer_1 is both frozen and trainable"):
        merge_params({"layer_1": {}}, {"layer_1": {}})


@pytest.mark.usefixtures("quick_compilation")
def test_training_the_top_needs_only_its_parameters_and_gives_the_whole_gradient():
    config = EncoderConfig("bert", 20, width=8, layers=2, heads=2, ffn=8, max_positions=6)
    params = init_params(config, jax.random.key(0))
    frozen, trainable = split_params(config, params, 1)
    cut = find_cut(config, 1).layer
    encoder = Encoder(config)
    ids = np.array([[3, 4, 5], [6, 7, 8]])
    states = encoder.apply({"params": frozen}, ids, stop_layer=cut)

    def top(trainable):
        hidden = encoder.apply({"params": trainable}, None, start_layer=cut, hidden=states)
        return (hidden[..., 0] ** 3).sum()

    def whole(trainable):
        params = merge_params(frozen, trainable)
        return (encoder.apply({"params": params}, ids)[..., 0] ** 3).sum()

    value, gradient = jax.jit(jax.value_and_grad(top))(trainable)
    expected, expected_gradient = jax.jit(jax.value_and_grad(whole))(trainable)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, expected_gradient
    )
