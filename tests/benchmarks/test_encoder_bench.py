"""The encoder benchmark: operations by hand, groups, and layouts that give the same vectors."""

import jax
import numpy as np
import pytest

from benchmarks import encoder_ours as ours
from benchmarks.encoder_data import bytes_moved, groups, operations, rows
from mtl_jax.nn.encoder import EncoderConfig, init_params

LENGTHS = np.array([3, 9, 30, 5, 17])
OFFSETS = np.append(0, np.cumsum(LENGTHS))


def test_operations_by_hand():
    n = np.array([2, 3])
    forward = 6 * (2 * 5 * (4 * 384**2 + 2 * 384 * 1536) + 4 * (4 + 9) * 384)
    assert operations(n, "minilm", train=False) == forward
    assert operations(n, "minilm", train=True) == 3 * forward


def test_groups_hold_every_text_once_and_are_sorted():
    found = groups(LENGTHS, 3)
    assert sorted(np.concatenate(found)) == [0, 1, 2, 3, 4]
    assert np.concatenate(found).tolist() == [0, 3, 1, 4, 2]
    assert len(groups(LENGTHS, 1)) == 1
    tokens = np.arange(1, OFFSETS[-1] + 1)
    assert rows(tokens, OFFSETS, np.array([0, 3]), 5).tolist() == [
        [1, 2, 3, 0, 0],
        [43, 44, 45, 46, 47],
    ]


@pytest.mark.parametrize("name", ["padded", "buckets", "grouped", "remat"])
def test_every_layout_gives_the_vectors_of_the_packed_one(name):
    config = EncoderConfig(
        "bert", 60, 16, 1, 2, 32, 32, remat="layers" if name == "remat" else "none"
    )
    params = init_params(config, jax.random.PRNGKey(0))
    tokens = np.random.default_rng(0).integers(1, 60, OFFSETS[-1]).astype(np.int32)
    o = ours.Open(config, params, tokens, OFFSETS, np.zeros((5, 16)), 32)
    found = []
    for layout in ("packed", name):
        run, arrays, computed = ours.layout(o, layout)
        found.append(np.asarray(run(config, params, arrays, None)))
        assert computed >= LENGTHS.sum()
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    assert np.ptp(found[0], axis=0).min() > 1e-3, "the texts differ"


def test_bytes_of_a_step_by_hand():
    by_tokens = (3 + 5) * 6 * 24 * 384 * 2  # tokens, layers, vectors of 384 in two bytes
    parameters = 6 * (4 * 384 * 384 + 2 * 384 * 1536) + (30522 + 512) * 384
    assert bytes_moved(np.array([3, 5]), "minilm", 2) == by_tokens + 28 * parameters
