"""What is made of a Config before training starts."""

import dataclasses

import numpy as np
import pytest

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.core.errors import UserError
from mtl_jax.job import centred, text_source
from tiny_config import get_config


def test_vectors_are_centred_by_trained_items_alone():
    rng = np.random.default_rng(0)
    x = (3.0 + rng.normal(0, [0.1, 2.0, 5.0], (50, 3))).astype(np.float32)
    x[0] = 0.0
    warm = np.arange(50) % 2 == 1
    found = centred(x, warm)
    np.testing.assert_allclose(found[warm].mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[warm].std(), 1.0, rtol=1e-4)
    assert not found[0].any()
    # One scale for all columns, so that angles between texts stay; cold items do not matter.
    np.testing.assert_allclose(
        found[3] - found[2], (x[3] - x[2]) / (x[warm] - x[warm].mean(0)).std(), rtol=1e-4
    )
    x[~warm] += 100.0
    np.testing.assert_array_equal(centred(x, warm)[warm], found[warm])
    np.testing.assert_array_equal(centred(x, np.zeros(50, bool)), x)


def test_centring_is_for_frozen_vectors():
    config = get_config()
    choice = EncoderChoice("minilm", train_layers=1, centre=True)
    with pytest.raises(UserError, match=r"encoder\.centre .* encoder\.train_layers=0"):
        text_source(dataclasses.replace(config, encoder=choice), None)
