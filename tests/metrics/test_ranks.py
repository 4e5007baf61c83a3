"""Ranks of targets among all items: ties, exclusions, blocks, faults."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.metrics.ranks import Ragged, Ranks, as_ranks, blocked_ranks, rank_of_targets


def slow_rank(scores, target, exclude):
    """By the definition, one candidate at a time."""
    rank = 1.0
    for item, score in enumerate(scores):
        if item != target and not exclude[item]:
            rank += (score > scores[target]) + 0.5 * (score == scores[target])
    return rank


def draw(seed, queries=9, items=13, levels=5):
    r = np.random.default_rng(seed)
    scores = r.integers(0, levels, (queries, items)).astype(np.float32)
    counts = r.integers(0, 4, queries)
    ids = np.concatenate([r.choice(items, n, replace=False) for n in counts])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return scores, Ragged(offsets, ids.astype(np.int64)), r.random((queries, items)) < 0.3


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_ranks_are_the_definition_with_ties_and_exclusions(seed):
    scores, targets, exclude = draw(seed)
    closed = exclude.copy()
    closed[targets.query, targets.ids] = False
    want = [
        slow_rank(scores[q], t, closed[q]) for q, t in zip(targets.query, targets.ids, strict=True)
    ]
    np.testing.assert_array_equal(rank_of_targets(scores, targets, exclude), want)
    single = scores[:, :9].argmin(axis=1)
    alone = [
        slow_rank(scores[q], t, np.where(np.arange(13) == t, False, exclude[q]))
        for q, t in enumerate(single)
    ]
    np.testing.assert_array_equal(rank_of_targets(scores, single, exclude), alone)


@given(seed=st.integers(0, 10_000), block=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_blocks_change_nothing(seed, block):
    scores, targets, exclude = draw(seed)
    exclude[:, 0] = True
    ids = np.nonzero(exclude)[1]
    offsets = np.concatenate([[0], np.cumsum(exclude.sum(axis=1))])
    seen = Ragged(offsets, ids)
    got = blocked_ranks(lambda rows: scores[rows], targets, seen, block=block)
    np.testing.assert_array_equal(got.ranks, rank_of_targets(scores, targets, exclude))
    np.testing.assert_array_equal(got.offsets, targets.offsets)


def test_candidates_take_the_padding_out():
    scores = np.array([[9.0, 1, 2, 3]])
    everything = blocked_ranks(lambda rows: scores[rows], np.array([1]))
    without = blocked_ranks(
        lambda rows: scores[rows], np.array([1]), candidates=np.array([False, True, True, True])
    )
    assert (everything.ranks[0], without.ranks[0]) == (4.0, 3.0)


def test_a_target_of_minus_infinity_and_an_excluded_target_are_still_candidates():
    scores = np.array([[-np.inf, -np.inf, 2.0]])
    assert rank_of_targets(scores, np.array([0])) == [2.5]
    assert rank_of_targets(scores, np.array([0]), np.array([[True, True, False]])) == [2.0]


def test_nothing_to_rank():
    assert len(blocked_ranks(lambda rows: np.empty((0, 3)), np.empty(0, int)).ranks) == 0


@pytest.mark.parametrize("target", [-1, 4])
def test_ids_out_of_range_are_refused(target):
    scores = np.zeros((1, 4))
    with pytest.raises(ValueError, match=f"target {target} is no item"):
        rank_of_targets(scores, np.array([target]))
    with pytest.raises(ValueError, match=f"excluded item {target} is no item"):
        blocked_ranks(
            lambda rows: scores, np.array([1]), Ragged(np.array([0, 1]), np.array([target]))
        )


def test_nan_scores_are_refused_unless_excluded():
    scores = np.array([[0.0, 1, 2], [np.nan, 1, 2]])
    with pytest.raises(ValueError, match="row 1 hold NaN"):
        rank_of_targets(scores, np.array([1, 1]))
    assert rank_of_targets(scores, np.array([1, 1]), np.isnan(scores)).tolist() == [2, 2]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 lists of targets for 1 rows"):
        rank_of_targets(np.zeros((1, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match="gave 1 rows"):
        blocked_ranks(lambda rows: np.zeros((1, 4)), np.array([0, 1]))
    with pytest.raises(ValueError, match="1 lists of excluded"):
        blocked_ranks(
            lambda rows: np.zeros((2, 4)),
            np.array([0, 1]),
            Ragged(np.array([0, 1]), np.array([1])),
        )
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.array([0, 3]), np.array([1]))
    with pytest.raises(ValueError, match="from 1 upwards"):
        as_ranks(Ranks(np.array([0, 1]), np.array([0.5])))
    with pytest.raises(ValueError, match="from 1 upwards"):
        as_ranks(np.array([1, np.nan]))
