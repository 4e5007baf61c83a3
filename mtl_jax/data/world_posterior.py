"""What a log tells of a user, when everything else is known: a Gaussian over the latents.

Assumed density filtering in order of time, all users side by side: each event adds what being
shown the item tells (exposure bias as evidence), then click, purchase, rating and dwell. Every
label depends on one linear predictor eta, so an update is one-dimensional: the moments of eta
under its likelihood are taken on a grid and carried over to the latents.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtl_jax.data.world import World
from mtl_jax.data.world_catalogue import FACTORS, Array
from mtl_jax.data.world_effects import (
    BETA,
    DWELL_NOISE,
    LABELS,
    LATENTS,
    Context,
    click_probability,
    means,
    offsets,
    rating_tail,
    sigmoid,
)

_GRID = np.linspace(-5.0, 5.0, 41)
_DENSITY = np.exp(-0.5 * _GRID**2) / np.exp(-0.5 * _GRID**2).sum()
_REFRESH = 4  # events between looks at what a user is being shown
_MEMORY = 8_000_000  # scores held at once

Likelihood = Callable[[Array, Array], Array]  # (eta [n, G], label [n]) -> [n, G]


def _bernoulli(probability: Callable[[Array], Array]) -> Likelihood:
    def likelihood(eta: Array, label: Array) -> Array:
        p = probability(eta)
        return np.where(label[:, None] > 0.5, p, 1.0 - p)

    return likelihood


def _ordered(eta: Array, label: Array) -> Array:
    tails = np.concatenate(
        [np.ones((*eta.shape, 1)), rating_tail(eta), np.zeros((*eta.shape, 1))], -1
    )
    k = np.rint(label).astype(int)[:, None, None]
    above = np.take_along_axis(tails, np.broadcast_to(k, (*eta.shape, 1)), -1)[..., 0]
    least = np.take_along_axis(tails, np.broadcast_to(k - 1, (*eta.shape, 1)), -1)[..., 0]
    return least - above


def _normal(eta: Array, label: Array) -> Array:
    return np.exp(-0.5 * ((label[:, None] - eta) / DWELL_NOISE) ** 2)


LIKELIHOODS: dict[str, Likelihood] = {
    "click": _bernoulli(click_probability),
    "purchase": _bernoulli(sigmoid),
    "rating": _ordered,
    "log_dwell": _normal,
}


@dataclass
class Belief:
    """mean [n, LATENTS] and covariance [n, LATENTS, LATENTS] of each user's latents."""

    mean: Array
    cov: Array

    def take(self, rows: Array) -> "Belief":
        """A copy for some of the users."""
        return Belief(self.mean[rows], self.cov[rows])

    def put(self, rows: Array, other: "Belief") -> None:
        """Replaces the belief about some of the users."""
        self.mean[rows], self.cov[rows] = other.mean, other.cov


def predictor(belief: Belief, design: Array, offset: Array) -> tuple[Array, Array]:
    """Mean and variance [n] of eta = w . design + offset; design [n, LATENTS]."""
    spread = np.einsum("nij,nj->ni", belief.cov, design)
    return (
        np.einsum("ni,ni->n", belief.mean, design) + offset,
        np.einsum("ni,ni->n", design, spread),
    )


def assimilate(
    belief: Belief, design: Array, offset: Array, likelihood: Likelihood, label: Array
) -> Belief:
    """The belief after one label each; where the label is NaN it stays as it is."""
    spread = np.einsum("nij,nj->ni", belief.cov, design)
    centre = np.einsum("ni,ni->n", belief.mean, design) + offset
    variance = np.maximum(np.einsum("ni,ni->n", design, spread), 1e-12)
    eta = centre[:, None] + np.sqrt(variance)[:, None] * _GRID
    known = np.isfinite(label)
    weight = _DENSITY * likelihood(eta, np.where(known, label, 1.0))
    weight = np.where(known[:, None], weight, _DENSITY) + 1e-300 * _DENSITY
    weight /= weight.sum(1, keepdims=True)
    new_centre = (weight * eta).sum(1)
    new_variance = (weight * (eta - new_centre[:, None]) ** 2).sum(1)
    step = np.where(known, (new_centre - centre) / variance, 0.0)
    shrink = np.where(known, (1.0 - new_variance / variance) / variance, 0.0)
    return Belief(
        belief.mean + spread * step[:, None],
        belief.cov - spread[:, :, None] * spread[:, None, :] * shrink[:, None, None],
    )


@dataclass
class Shelf:
    """What each user is being shown on average, seen from a guess of the taste: `point` [n, F] is
    the guess, `mean` [n, F] and `cov` [n, F, F] are the moments of the factors of items shown.
    """

    point: Array
    mean: Array
    cov: Array


def look_at_shelf(world: World, point: Array, time: Array) -> Shelf:
    """The logging policy of users with tastes `point` [n, F], over items launched by `time` [n]."""
    items = world.items
    pairs = (items.factors[:, :, None] * items.factors[:, None, :]).reshape(len(items.id), -1)
    features = np.concatenate([np.ones((len(pairs), 1)), items.factors, pairs], 1)
    sums = np.empty((len(point), features.shape[1]))
    block = max(1, _MEMORY // len(pairs))
    for start in range(0, len(point), block):
        part = slice(start, start + block)
        scores = BETA * point[part] @ items.factors.T + items.log_popularity
        scores[items.launch[None, :] > time[part, None]] = -np.inf
        sums[part] = np.exp(scores - scores.max(1, keepdims=True)) @ features
    sums /= sums[:, :1]
    mean = sums[:, 1 : FACTORS + 1]
    second = sums[:, FACTORS + 1 :].reshape(-1, FACTORS, FACTORS)
    return Shelf(point, mean, second - mean[:, :, None] * mean[:, None, :])


def shown_something(belief: Belief, shelf: Shelf) -> Belief:
    """The belief after 1 / Z(u), the normaliser of the logging policy, to second order at `point`.

    Multiply by exp(BETA u.v_i) (`shown`) to have the evidence of an exposure of item i.
    """
    taste = slice(0, FACTORS)
    noise = np.linalg.inv(BETA**2 * shelf.cov + 1e-9 * np.eye(FACTORS))
    gain = belief.cov[:, :, taste] @ np.linalg.inv(belief.cov[:, taste, taste] + noise)
    cov = belief.cov - gain @ belief.cov[:, taste, :]
    gap = belief.mean[:, taste] - shelf.point
    mean = belief.mean - np.einsum("nij,nj->ni", gain, gap)
    return Belief(mean - BETA * np.einsum("nij,nj->ni", cov[:, :, taste], shelf.mean), cov)


def shown(belief: Belief, factors: Array) -> Belief:
    """The belief after exp(BETA u.v) of the item shown; factors [n, F]."""
    shift = np.einsum("nij,nj->ni", belief.cov[:, :, :FACTORS], factors)
    return Belief(belief.mean + BETA * shift, belief.cov)


@dataclass(frozen=True)
class Predictions:
    """For the wanted rows: predicted labels [labels, n], and the belief about the row's user
    before the row (with `shown_something` applied), from which next items are ranked.
    """

    rows: Array
    labels: Array
    query: Belief


def context_of(world: World, rows: Array) -> Context:
    """The moments of some rows of the log."""
    events = world.events
    return Context(
        events.time[rows],
        events.device[rows].astype(int),
        events.place[rows].astype(int),
        world.users.age[events.user[rows]],
    )


def _expected(centre: Array, variance: Array) -> Array:
    """[labels, n] expected labels when eta is normal: the mean over the grid."""
    total = np.zeros_like(centre)
    for point, density in zip(_GRID, _DENSITY, strict=True):
        total += density * means(centre + point * np.sqrt(variance))
    return total


def _turns(world: World) -> list[Array]:
    """Rows of the log by turn: turn s holds every user's s-th event."""
    user = world.events.user
    order = np.argsort(user, kind="stable")
    count = np.bincount(user, minlength=len(world.users.id))
    turn = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    by_turn = order[np.argsort(turn, kind="stable")]
    return np.split(by_turn, np.cumsum(np.bincount(turn))[:-1])


def follow(world: World, wanted: Array) -> Predictions:
    """Predictions for rows `wanted` (ascending), each from the log strictly before its time.

    Purchase, rating and dwell are predicted given a click, as their labels exist only then. Events
    of one user at the same second do not inform each other.
    """
    events, effects, users = world.events, world.effects, world.users
    prior = np.tile(np.diag(users.prior_variance), (len(users.id), 1, 1))
    now = Belief(users.prior_mean.copy(), prior)
    before = Belief(now.mean.copy(), now.cov.copy())
    last = np.full(len(users.id), -1, np.int64)
    shelf = Shelf(
        *(
            np.zeros((len(users.id), *shape))
            for shape in ((FACTORS,), (FACTORS,), (FACTORS, FACTORS))
        )
    )
    slot = np.full(len(events.user), -1)
    slot[wanted] = np.arange(len(wanted))
    centre, variance = np.zeros((2, len(LABELS), len(wanted)))
    query = Belief(np.zeros((len(wanted), LATENTS)), np.zeros((len(wanted), LATENTS, LATENTS)))

    for s, rows in enumerate(_turns(world)):
        user, item = events.user[rows], events.item[rows]
        later = user[events.time[rows] > last[user]]
        before.put(later, now.take(later))
        last[user] = events.time[rows]
        if s % _REFRESH == 0:
            view = look_at_shelf(world, now.mean[user, :FACTORS], events.time[rows])
            shelf.point[user], shelf.mean[user], shelf.cov[user] = view.point, view.mean, view.cov
        here = Shelf(shelf.point[user], shelf.mean[user], shelf.cov[user])
        context, factors = context_of(world, rows), world.items.factors[item]
        parts = [
            (effects.design[t, item], offsets(effects, t, context, item))
            for t in range(len(LABELS))
        ]

        hit = np.flatnonzero(slot[rows] >= 0)
        if len(hit):
            place = slot[rows[hit]]
            asked = shown_something(
                before.take(user[hit]), Shelf(here.point[hit], here.mean[hit], here.cov[hit])
            )
            query.put(place, asked)
            asked = shown(asked, factors[hit])
            for t in range(len(LABELS)):
                design, offset = parts[t][0][hit], parts[t][1][hit]
                centre[t, place], variance[t, place] = predictor(asked, design, offset)
                if t == 0:  # the rest is asked only of those who clicked
                    asked = assimilate(
                        asked, design, offset, LIKELIHOODS["click"], np.ones(len(hit))
                    )

        belief = shown(shown_something(now.take(user), here), factors)
        for t, label in enumerate(LABELS):
            value = getattr(events, label)[rows].astype(float)
            if np.isfinite(value).any():
                belief = assimilate(belief, *parts[t], LIKELIHOODS[label], value)
        now.put(user, belief)
    return Predictions(wanted, _expected(centre, np.maximum(variance, 0)), query)
