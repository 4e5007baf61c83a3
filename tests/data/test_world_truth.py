"""Floor, ceiling and Bayes: ordered as they must be, calibrated, and blind to the future."""

import dataclasses

import numpy as np
import pytest

from mtl_jax.data.world import World, generate
from mtl_jax.data.world_catalogue import FACTORS, TEST_FROM, VALID_FROM
from mtl_jax.data.world_effects import (
    DWELL_NOISE,
    LABELS,
    RATING_NOISE,
    TURNED,
    offsets,
    sigmoid,
)
from mtl_jax.data.world_posterior import Belief, assimilate, context_of, follow
from mtl_jax.data.world_truth import (
    LEVELS,
    Level,
    References,
    _catalogue_scores,
    references,
    split_rows,
    summary,
)

CONFLICTS = (0.0, 0.5, 1.0)
Judged = dict[float, tuple[World, References]]


@pytest.fixture(scope="module")
def judged() -> Judged:
    worlds = {conflict: generate(20_000, seed=0, conflict=conflict) for conflict in CONFLICTS}
    return {conflict: (world, references(world, "test")) for conflict, world in worlds.items()}


@pytest.fixture(scope="module")
def world(judged: Judged) -> World:
    return judged[0.0][0]


@pytest.fixture(scope="module")
def found(judged: Judged) -> References:
    return judged[0.0][1]


def test_bayes_beats_the_ceiling_and_the_ceiling_the_floor(world: World) -> None:
    table = summary(world)
    for metric in ("click.auc", "purchase.auc"):
        floor, ceiling, bayes = (table[metric][level] for level in LEVELS)
        assert floor > 0.55
        assert floor + 0.07 < ceiling < bayes - 0.002
    for metric in ("rating.rmse", "log_dwell.rmse"):
        floor, ceiling, bayes = (table[metric][level] for level in LEVELS)
        assert floor > ceiling + 0.08
        assert ceiling > bayes + 0.005
    floor, ceiling, bayes = (table["next_item.ndcg@10"][level] for level in LEVELS)
    assert 2 * floor < ceiling < 1.05 * bayes


def test_the_ceiling_is_calibrated(world: World, found: References) -> None:
    for label in LABELS:
        values = getattr(world.events, label)[found.rows].astype(float)
        there = np.isfinite(values)
        predicted = found.labels[label]["ceiling"][there]
        error = 4 * values[there].std() / np.sqrt(there.sum())
        assert values[there].mean() == pytest.approx(predicted.mean(), abs=error), label


def _fresh(world: World, label: str, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n] labels drawn anew for rows with a click; their law is written down here once more."""
    mean = getattr(world.truth, label)[rows].astype(float)
    if label in ("click", "purchase"):
        return np.asarray(rng.random(len(rows)) < mean, float)
    user, item = world.events.user[rows], world.events.item[rows]
    t = LABELS.index(label)
    eta = (world.users.latents[user] * world.effects.design[t, item]).sum(1)
    eta += offsets(world.effects, t, context_of(world, rows), item)
    if label == "log_dwell":
        return np.asarray(eta + DWELL_NOISE * rng.standard_normal(len(rows)))
    return np.clip(np.round(eta + RATING_NOISE * rng.logistic(size=len(rows))), 1, 5)


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_the_ceiling_is_calibrated_against_fresh_labels(judged: Judged, conflict: float) -> None:
    """In five bins of the ceiling's prediction the mean of 20 fresh labels a row lies within four
    standard errors of it, users being drawn, not rows.
    """
    world, found = judged[conflict]
    rng = np.random.default_rng(1)
    for label in LABELS:
        there = np.arange(len(found.rows)) if label == "click" else found.clicked
        rows, predicted = found.rows[there], found.labels[label]["ceiling"][there]
        fresh = np.mean([_fresh(world, label, rows, rng) for _ in range(20)], axis=0)
        for part in np.array_split(np.argsort(predicted), 5):
            gap = np.bincount(world.events.user[rows[part]], (fresh - predicted)[part])
            error = 4 * np.sqrt((gap**2).sum()) / len(part)
            assert error < 0.1
            assert fresh[part].mean() == pytest.approx(predicted[part].mean(), abs=error), label


@pytest.mark.parametrize("conflict", [0.5, 1.0])
def test_a_conflict_leaves_ceilings_where_they_are(judged: Judged, conflict: float) -> None:
    """Who knows the mechanism reads a turned taste off the clicks as well as before."""

    def error(conflict: float, label: str, level: Level) -> float:
        """Root mean square distance to the truth, in spreads of the truth."""
        _, found = judged[conflict]
        truth = found.labels[label]["bayes"][found.clicked]
        gap = found.labels[label][level][found.clicked] - truth
        return float(np.sqrt(np.mean(gap**2)) / truth.std())

    for label in LABELS:
        ceiling = error(conflict, label, "ceiling")
        assert ceiling == pytest.approx(error(0.0, label, "ceiling"), abs=0.06), label
        assert ceiling < 0.5 * error(conflict, label, "floor"), label


@pytest.mark.parametrize("conflict", [0.5, 1.0])
def test_a_ceiling_that_does_not_know_of_the_conflict_is_worse(
    judged: Judged, conflict: float
) -> None:
    world, found = judged[conflict]
    rows = found.rows[found.clicked]
    blind = follow(dataclasses.replace(world, effects=judged[0.0][0].effects), rows)
    for label in TURNED:
        truth = found.labels[label]["bayes"][found.clicked]
        knowing = found.labels[label]["ceiling"][found.clicked]
        errors = [np.mean((p - truth) ** 2) for p in (knowing, blind.labels[LABELS.index(label)])]
        assert errors[1] > 2 * errors[0], label


def test_the_posterior_is_nearer_to_the_truth_than_the_profile(world: World) -> None:
    rows = split_rows(world, "test")
    belief = follow(world, rows).query
    user = world.events.user[rows]
    truth, prior = world.users.latents[user], world.users.prior_mean[user]
    warm = world.users.first_day[user] < 36
    after = ((belief.mean - truth)[warm] ** 2).mean(0)
    before = ((prior - truth)[warm] ** 2).mean(0)
    assert (after[:FACTORS] < 0.2 * before[:FACTORS]).all()
    assert (after < 0.95 * before).all()
    # An honest belief errs by as much as it says.
    said = np.einsum("nii->ni", belief.cov)
    assert np.mean((belief.mean - truth) ** 2 / said) == pytest.approx(1.0, abs=0.15)


def test_predictions_do_not_look_at_their_own_row_or_later(world: World) -> None:
    """Labels of the test days are turned round: nothing predicted for its first row changes, nor
    for another row of the same second.
    """
    cut = int(np.searchsorted(world.events.time, TEST_FROM))
    same = np.flatnonzero(world.events.time == world.events.time[cut])
    events = dataclasses.replace(
        world.events, click=world.events.click.copy(), rating=world.events.rating.copy()
    )
    events.click[cut:] = 1 - events.click[cut:]
    events.rating[cut:] = 6 - events.rating[cut:]
    rows = np.union1d(np.arange(cut - 50, cut), same)
    honest = follow(world, rows)
    turned = follow(dataclasses.replace(world, events=events), rows)
    np.testing.assert_array_equal(honest.labels, turned.labels)
    np.testing.assert_array_equal(honest.query.mean, turned.query.mean)


def test_events_of_one_second_do_not_inform_each_other(world: World) -> None:
    """Two events of one user in one second: the later of them in the file learns nothing."""
    user = np.bincount(world.events.user).argmax()
    rows = np.flatnonzero(world.events.user == user)
    a, b = rows[40], rows[41]
    time = world.events.time.copy()
    time[b] = time[a]
    click = world.events.click.copy()
    answers = []
    for value in (0.0, 1.0):
        click[a] = value
        events = dataclasses.replace(world.events, time=time, click=click.copy())
        answers.append(follow(dataclasses.replace(world, events=events), np.array([b])))
    np.testing.assert_array_equal(answers[0].labels, answers[1].labels)


def test_one_update_is_that_of_a_fine_integral() -> None:
    """One latent, one click: the moments against a grid of 20,001 points."""
    belief = Belief(np.array([[0.3]]), np.array([[[1.7]]]))

    def click(eta: np.ndarray, label: np.ndarray) -> np.ndarray:
        return sigmoid(eta)

    after = assimilate(belief, np.array([[1.2]]), np.array([-0.5]), click, np.ones(1))
    w = np.linspace(-12, 12, 20_001)
    density = np.exp(-0.5 * (w - 0.3) ** 2 / 1.7) * sigmoid(1.2 * w - 0.5)
    density /= density.sum()
    mean = (density * w).sum()
    assert after.mean[0, 0] == pytest.approx(mean, abs=1e-4)
    assert after.cov[0, 0, 0] == pytest.approx((density * (w - mean) ** 2).sum(), abs=1e-4)


def test_catalogue_scores_under_a_belief_are_the_mean_over_tastes(world: World) -> None:
    """Scores of a spread belief against 4,000 drawn tastes, each scored exactly."""
    rng = np.random.default_rng(0)
    row = np.array([15_000])
    size = world.users.latents.shape[1]
    root = 0.25 * rng.standard_normal((size, size)) / np.sqrt(size)
    query = Belief(world.users.latents[:1], (root @ root.T)[None] + 0.02 * np.eye(size))
    draws = rng.multivariate_normal(query.mean[0], query.cov[0], 4_000)
    sharp = Belief(draws, np.zeros((len(draws), size, size)))
    context = context_of(world, np.repeat(row, len(draws)))
    exact = np.log(np.exp(_catalogue_scores(world, sharp, context)).mean(0))
    scores = _catalogue_scores(world, query, context_of(world, row))[0]
    gap = scores - exact
    assert np.abs(gap - gap.mean()).max() < 0.05
    assert exact.std() > 0.5


def test_ranks_cover_the_catalogue_and_average_ties(world: World, found: References) -> None:
    positions = found.clicked[:40]
    items = world.events.item[found.rows[positions]]
    for level in LEVELS:
        scores = found.next_item_scores(level, positions)
        assert scores.shape == (40, len(world.items.id))
        own = scores[np.arange(40), items][:, None]
        expected = ((scores > own).sum(1) + 1 + (scores >= own).sum(1)) / 2
        np.testing.assert_array_equal(found.next_item_ranks(level, positions), expected)
    never = world.items.launch[items] >= VALID_FROM  # no training clicks: tied at the bottom
    if never.any():
        assert (found.next_item_ranks("floor", positions)[never] > len(world.items.id) / 2).all()


def test_the_floor_is_fitted_on_training_rows_only(world: World) -> None:
    events = dataclasses.replace(world.events, rating=world.events.rating.copy())
    later = world.events.time >= VALID_FROM
    events.rating[later] = 6 - events.rating[later]
    rows = split_rows(world, "test")[:200]
    honest = references(world, rows).labels["rating"]["floor"]
    turned = references(dataclasses.replace(world, events=events), rows).labels["rating"]["floor"]
    np.testing.assert_array_equal(honest, turned)
