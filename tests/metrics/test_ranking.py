"""Ranking measures against trec_eval (through ir-measures)."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, Success, nDCG

from mtl_jax.metrics.ranking import as_ranks, blocked_ranks, map_at, mrr_at, ndcg_at, recall_at
from mtl_jax.metrics.ranks import Ragged
from mtl_jax.metrics.registry import RANKING

ITEMS = 30
ORACLES = {
    "recall": lambda k: R @ k,
    "ndcg": lambda k: nDCG @ k,
    "mrr": lambda k: RR @ k,
    "hit_rate": lambda k: Success @ k,
    "map": lambda k: AP @ k,
}


def draw(seed, queries=6, most=5):
    r = np.random.default_rng(seed)
    scores = np.stack([r.permutation(ITEMS) for _ in range(queries)]).astype(float)
    counts = r.integers(1, most + 1, queries)
    ids = np.concatenate([r.choice(ITEMS, n, replace=False) for n in counts])
    return scores, Ragged(np.concatenate([[0], np.cumsum(counts)]), ids)


def trec(measures, scores, targets):
    """{(measure, query): value} by trec_eval's code."""
    qrels, run = {}, {}
    for q, items in enumerate(scores):
        wanted = targets.ids[targets.offsets[q] : targets.offsets[q + 1]]
        qrels[str(q)] = {f"d{i}": 1 for i in wanted}
        run[str(q)] = {f"d{i}": float(score) for i, score in enumerate(items)}
    found = ir_measures.iter_calc(measures, qrels, run)
    return {(m.measure, int(m.query_id)): m.value for m in found}


@given(
    seed=st.integers(0, 10_000), k=st.sampled_from([1, 3, 10, 100]), most=st.sampled_from([1, 5])
)
@settings(max_examples=25, deadline=None)
def test_agrees_with_trec_eval_without_ties(seed, k, most):
    scores, targets = draw(seed, most=most)
    ranks = blocked_ranks(lambda rows: scores[rows], targets, block=4)
    want = trec([oracle(k) for oracle in ORACLES.values()], scores, targets)
    for name, oracle in ORACLES.items():
        expected = [want[oracle(k), q] for q in range(len(scores))]
        np.testing.assert_allclose(RANKING[name](ranks, k), expected, atol=1e-6, err_msg=name)
    whole = trec([RR, AP], scores, targets)
    for measure, got in ((RR, mrr_at(ranks)), (AP, map_at(ranks, np.inf))):
        np.testing.assert_allclose(got, [whole[measure, q] for q in range(len(scores))], atol=1e-6)


def test_ties_do_not_depend_on_ids_where_trec_evals_do():
    scores = np.array([[1.0, 1.0, 0.0]])
    ours = [mrr_at(blocked_ranks(lambda rows: scores, np.array([t])))[0] for t in (0, 1)]
    theirs = [trec([RR], scores, Ragged(np.array([0, 1]), np.array([t])))[RR, 0] for t in (0, 1)]
    assert ours == [1 / 1.5, 1 / 1.5]
    assert sorted(theirs) == [0.5, 1.0]


def test_tied_relevant_items_share_their_places():
    ranks = blocked_ranks(
        lambda rows: np.array([[1.0, 1.0, 0.0]]), Ragged(np.array([0, 2]), np.array([0, 1]))
    )
    assert ranks.ranks.tolist() == [1.5, 1.5]
    assert map_at(ranks, 2)[0] == pytest.approx(1.0)
    assert recall_at(ranks, 1)[0] == 0


def test_a_query_without_relevant_items_has_no_value_and_an_unranked_item_none_of_the_gain():
    ranks = blocked_ranks(
        lambda rows: np.array([[1.0, 0.0], [1.0, 0.0]]),
        Ragged(np.array([0, 0, 1]), np.array([1])),
    )
    for measure in RANKING.values():
        assert np.isnan(measure(ranks, 2)).tolist() == [True, False]
        assert measure(as_ranks(np.array([np.inf])), 10).tolist() == [0.0]
    assert ndcg_at(ranks, 2)[1] == pytest.approx(1 / np.log2(3))
