"""Columns of few values as products against flax's own embeddings and dense layers."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.data.schema import Categorical, Schema
from mtl_jax.nn import columns, item_tower
from mtl_jax.nn.config import ModelConfig

RNG = np.random.default_rng(0)
U, D, V = 6, 4, 5


def test_parameters_start_as_flaxs_do() -> None:
    key, ids = jax.random.PRNGKey(3), np.arange(V)
    own = columns.Rows(name="x").init(key, V, D)["params"]
    np.testing.assert_array_equal(
        own["embedding"], nn.Embed(V, D, name="x").init(key, ids)["params"]["embedding"]
    )
    own = columns.Weights(name="x").init(key, V, D)["params"]
    theirs = nn.Dense(D, name="x").init(key, np.ones((1, V)))["params"]
    np.testing.assert_array_equal(own["kernel"], theirs["kernel"])
    np.testing.assert_array_equal(own["bias"], theirs["bias"])


def test_few_is_a_product() -> None:
    x, kernel, g = (RNG.normal(size=s).astype(np.float32) for s in ((2, 3, 4), (4, D), (2, 3, D)))
    found, back = jax.vjp(columns.few, x, kernel)
    wanted, right = jax.vjp(lambda x, k: jnp.einsum("bhk,kd->bhd", x, k), x, kernel)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    for a, b in zip(back(g), right(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_mean_of_rows_and_its_weights() -> None:
    table = RNG.normal(size=(V, D)).astype(np.float32)
    ids = np.array([[1, 2, 4], [3, 0, 0], [0, 0, 0], [2, 2, 1]])
    wanted = [table[[i for i in row if i]].mean(0) if any(row) else np.zeros(D) for row in ids]
    np.testing.assert_allclose(columns.mean_row(table, ids), wanted, rtol=1e-5, atol=1e-6)
    weighed = columns.shares(ids, V, jnp.dtype("float32")) @ table
    np.testing.assert_allclose(weighed, wanted, rtol=1e-5, atol=1e-6)


SCHEMA = Schema(
    n_users=3,
    n_items=9,
    labels=(),
    positive="",
    category="",
    item_categorical=(),
    user_categorical=(),
    context=(),
    n_tags=0,
    tag_width=3,
    item_dense=(),
    user_dense=(),
    statistics=(),
    history_types=2,
)


def test_an_item_of_nothing_is_still_one_row_each() -> None:
    tower = item_tower.ItemTower(ModelConfig(width=D, item_id=False), SCHEMA)
    args = (np.ones((U, D), np.float32), np.ones(U, np.float32), None, {}, True)
    assert tower.init_with_output(jax.random.PRNGKey(0), *args)[0].shape == (U, D)


@pytest.mark.parametrize("tags", [0, V])
def test_an_item_is_the_same_by_product_and_gathered(
    monkeypatch: pytest.MonkeyPatch, tags: int
) -> None:
    both_sizes = (Categorical("genre", 7), Categorical("star", 8))
    schema = replace(SCHEMA, n_tags=tags, item_categorical=both_sizes, item_dense=("year", "price"))
    batch = {
        "items/cat_genre": RNG.integers(0, 7, U),
        "items/cat_star": RNG.integers(0, 8, U),
        "items/tags": RNG.integers(0, V, (U, 3)),
        "items/dense": RNG.normal(size=(U, 2)).astype(np.float32),
    }
    rows, keep = RNG.normal(size=(U, D)).astype(np.float32), np.ones(U, np.float32)
    tower = item_tower.ItemTower(ModelConfig(width=D), schema)
    args = (rows, keep, None, batch, True)
    monkeypatch.setattr(item_tower, "SMALL", 7)
    params = tower.init(jax.random.PRNGKey(0), *args)
    both = tower.apply(params, *args)
    monkeypatch.setattr(item_tower, "SMALL", 0)
    np.testing.assert_allclose(tower.apply(params, *args), both, rtol=1e-4, atol=1e-5)
