"""Attention with one vector a query against keys and values made one by one."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.core.types import Array, Params
from mtl_jax.nn.user_tower import Attend, Memory, attend

B, H, D, N = 3, 5, 8, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, H, D))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)
QUERIES = RNG.normal(size=(2, B, D))


class Both(nn.Module):
    """Two queries with parameters of their own over one history."""

    @nn.compact
    def __call__(self, x: Array, queries: Array, mask: Array) -> list[Array]:
        memory = Memory(N, "float32", name="memory")(x)
        asking = [(Attend(N, D, "float32", name=f"ask_{n}"), q) for n, q in enumerate(queries)]
        return attend(asking, memory, mask)


def by_hand(params: Params, x: Array, queries: Array, mask: Array) -> list[Array]:
    """Keys and values made one by one, a query after the other."""
    kv, found = params["memory"]["key_value"], []
    keys, values = jnp.split((x @ kv["kernel"] + kv["bias"]).reshape(B, H, 2 * N, D // N), 2, 2)
    for n, query in enumerate(queries):
        p = params[f"ask_{n}"]
        q = (query @ p["query"]["kernel"] + p["query"]["bias"]).reshape(B, N, D // N)
        logits = jnp.einsum("bnd,bhnd->bnh", q, keys) / np.sqrt(D // N)
        weights = jax.nn.softmax(jnp.where(mask[:, None] > 0, logits, -jnp.inf), -1)
        out = jnp.einsum("bnh,bhnd->bnd", weights, values).reshape(B, D)
        out = out @ p["out"]["kernel"] + p["out"]["bias"]
        found.append(jnp.where(mask.any(1, keepdims=True), out, 0.0))
    return found


def test_queries_read_keys_and_values_without_making_them() -> None:
    model = Both()
    params = model.init(jax.random.PRNGKey(1), X, QUERIES, MASK)["params"]
    params = jax.tree.map(lambda p: p + RNG.normal(size=p.shape), params)
    g = RNG.normal(size=(2, B, D)) * MASK.any(1)[None, :, None]

    def total(f: Callable[..., list[Array]]) -> Callable[..., Array]:
        return lambda *args: jnp.sum(jnp.stack(f(*args)) * g)

    def ours(params: Params, *args: Array) -> list[Array]:
        found: list[Array] = model.apply({"params": params}, *args)
        return found

    found, wanted = (f(params, X, QUERIES, MASK) for f in (ours, by_hand))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    some = MASK.copy()
    some[2, 0] = 1  # by hand, the softmax of nothing has no gradient
    back, right = (
        jax.grad(total(f), argnums=(0, 1, 2))(params, X, QUERIES, some) for f in (ours, by_hand)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), back, right)
