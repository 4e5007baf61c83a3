"""Attention with one query against keys and values made one by one."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.nn.user_tower import Attend, Memory


def test_one_query_reads_keys_and_values_without_making_them() -> None:
    B, H, D, N = 3, 5, 8, 2
    rng = np.random.default_rng(0)
    x, query = rng.normal(size=(B, H, D)), rng.normal(size=(B, D))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)
    key = jax.random.PRNGKey(1)
    memory = Memory(N, "float32")
    kept = jax.tree.map(lambda p: p + rng.normal(size=p.shape), memory.init(key, jnp.asarray(x)))
    recall = memory.apply(kept, jnp.asarray(x))
    attend = Attend(N, "float32")
    own = jax.tree.map(
        lambda p: p + rng.normal(size=p.shape), attend.init(key, jnp.asarray(query), recall, mask)
    )
    found = attend.apply(own, jnp.asarray(query), recall, jnp.asarray(mask))

    p, kv = own["params"], kept["params"]["key_value"]
    both = (x @ kv["kernel"] + kv["bias"]).reshape(B, H, 2, N, D // N)
    q = (query @ p["query"]["kernel"] + p["query"]["bias"]).reshape(B, N, D // N)
    wanted = np.zeros((B, D))
    for b in range(2):
        n = int(mask[b].sum())
        heads = []
        for h in range(N):
            logits = both[b, :n, 0, h] @ q[b, h] / np.sqrt(D // N)
            w = np.exp(logits - logits.max())
            heads.append(w / w.sum() @ both[b, :n, 1, h])
        wanted[b] = np.concatenate(heads) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
