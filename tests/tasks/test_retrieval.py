"""Retrieval over a batch: shards, candidates, accidental hits."""

import jax
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.tasks.retrieval import retrieval_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")
S, B, U, D = 2, 3, 6, 4


def case(seed=0):
    rng = np.random.default_rng(seed)
    ids = np.zeros((S, U), np.int32)
    ids[0, 1:5], ids[1, 1:4] = [7, 9, 11, 13], [7, 9, 15]  # rows beyond are padding: id 0
    items = {i: (rng.normal(size=D), rng.normal()) for i in (0, 7, 9, 11, 13, 15)}
    key = np.array([[items[i][0] for i in row] for row in ids], np.float32)
    bias = np.array([[items[i][1] for i in row] for row in ids], np.float32)
    output = {"query": rng.normal(size=(S, B, D)).astype(np.float32), "key": key, "bias": bias}
    batch = {
        "item": np.array([[1, 3, 2], [3, 1, 3]], np.int32),
        "cand": np.array([[1, 4, 0, 3], [3, 2, 0, 0]], np.int32),
        "items/id": ids,
        "items/log_q": rng.normal(-1, 0.3, (S, U)).astype(np.float32),
    }
    return output, batch


def by_hand(output, batch, mask_hits=True):
    """The same by loops over rows and candidates of all shards, in float64."""
    out = np.zeros((S, B))
    candidates = [
        (s, at) for s in range(S) for at in batch["cand"][s] if batch["items/id"][s, at] > 0
    ]
    for s in range(S):
        for r in range(B):
            target = batch["item"][s, r]
            own_id = batch["items/id"][s, target]

            def score(s2, at, s=s, r=r):
                q = np.float64(output["query"][s, r])
                corrected = q @ output["key"][s2, at] + output["bias"][s2, at]
                return corrected - batch["items/log_q"][s2, at]

            mine = score(s, target)
            kept = [
                score(*c)
                for c in candidates
                if not mask_hits or batch["items/id"][c[0], c[1]] != own_id
            ]
            out[s, r] = np.log(np.exp([mine, *kept]).sum()) - mine
    return out


def test_candidates_of_all_shards_and_accidental_hits():
    output, batch = case()
    got = retrieval_loss(output, batch, "sampled_softmax")
    assert got.shape == (S, B)
    np.testing.assert_allclose(got, by_hand(output, batch), rtol=2e-5)
    assert np.abs(by_hand(output, batch, mask_hits=False) - got).max() > 0.01


def test_the_loss_does_not_depend_on_how_rows_are_spread_over_shards():
    output, batch = case()
    # One shard: its table is the two tables, one behind the other.
    moved = np.array([0, U])[:, None]
    one = {
        "item": (batch["item"] + moved).reshape(1, -1),
        "cand": (batch["cand"] + moved).reshape(1, -1),
        "items/id": batch["items/id"].reshape(1, -1),
        "items/log_q": batch["items/log_q"].reshape(1, -1),
    }
    joined = {
        "query": output["query"].reshape(1, -1, D),
        "key": output["key"].reshape(1, -1, D),
        "bias": output["bias"].reshape(1, -1),
    }
    for name in ("sampled_softmax", "bpr"):
        apart = np.asarray(retrieval_loss(output, batch, name)).ravel()
        together = np.asarray(retrieval_loss(joined, one, name)).ravel()
        np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_no_candidates_at_all_is_no_loss_and_finite():
    output, batch = case()
    batch["cand"] = np.zeros_like(batch["cand"])
    value, grad = jax.value_and_grad(
        lambda q: retrieval_loss({**output, "query": q}, batch, "sampled_softmax").sum()
    )(output["query"])
    assert value == 0.0
    assert np.isfinite(grad).all()


def test_an_unknown_loss_is_refused():
    with pytest.raises(UserError, match="Did you mean 'bpr'"):
        retrieval_loss(*case(), "bprr")
