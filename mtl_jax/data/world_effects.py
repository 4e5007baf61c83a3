"""How the generated shop answers: the global parameters, and the linear predictors of the labels.

For a user with latents w, an item i and a context c, label t has the predictor
    eta_t = w . x_t(i) + row_t(c) . item_t(i) + main_t(c)
where w = (taste u [FACTORS], price sensitivity, one bias per label) is Gaussian given the profile.
click and purchase are Bernoulli(sigmoid(eta)), rating is an ordered logit around eta, and
log1p(dwell seconds) is normal around eta. Everything but w is global and can be learned.

Conflict c in [0, 1] turns the tastes that drive purchase and rating away from those that drive
click and dwell: in their predictors the taste u becomes R(a) u with a = c 90 degrees,
    R(a) u = cos(a) u + sin(a) J u,    J u = (-u_1, u_0, -u_3, u_2),
so that u . R(a) u = cos(a) |u|^2: the same taste at 0, one at right angles to it at 1, of the same
length and learned from the same log. No real basis makes u . v and u . R(a) v both diagonal, so
factors that serve one task do not serve the other. 90 degrees are the most that turn against each
other: 180 only change the sign of eta, which the sign of a head's weight undoes. What is shown,
clicks and dwell are the same at every c; `_lost` keeps the mean of eta among clicks.
"""

from dataclasses import dataclass

import numpy as np

from mtl_jax.data.world_catalogue import DAY, FACTORS, START, Array, Items, stream
from mtl_jax.data.world_phrases import STYLES
from mtl_jax.data.world_words import CATEGORIES

LABELS = ("click", "purchase", "rating", "log_dwell")
LATENTS = FACTORS + 1 + len(LABELS)
PRICE = FACTORS  # where the price sensitivity stands among the latents
BETA = 0.9 / np.sqrt(FACTORS)  # how much the shop shows people what they like
SLOTS = np.array([0.4, 0.2, 0.0, -0.2, -0.4])  # shift of the click's logit by an unrecorded slot
RATING_NOISE = 0.30  # scale of the logistic noise before rounding
DWELL_NOISE = 0.50
TURNED = ("purchase", "rating")  # the labels whose tastes `conflict` turns away from the click's
WIDEST = np.pi / 2  # radians, at conflict 1
_MOMENT, _MOMENT_STD = 0.4, 0.87  # mean and spread of `offsets` of the click, but its intercept
_ASKED = 512  # people whose clicks say what a turn takes from a label's mean

# One number per label: click, purchase, rating, log_dwell. Standard deviations of the terms.
_INTERCEPT = (-2.2, -2.7, 1.95, 3.2)
_TASTE = (1.3, 1.1, 0.80, 0.45)
_PRICE = (0.45, 0.60, 0.06, 0.05)
_APPEAL = (0.20, 0.15, 0.12, 0.04)
_WORDS = (0.0, 0.0, 0.0, 0.10)
_DEVICE_PRICE = (0.45, 0.50, 0.0, 0.05)
_PLACE_CATEGORY = (0.60, 0.45, 0.0, 0.12)
_WEEKEND_STYLE = (0.50, 0.40, 0.0, 0.08)
_HOUR_AGE = (0.60, 0.40, 0.0, 0.15)
BIAS_STD = (0.25, 0.25, 0.12, 0.12)

_DEVICE_SIGN = np.array([-1.0, 1.0, 0.1])  # phone, desktop, tablet: dear things sell on desktops
_DEVICE_MAIN = np.array([[0.1, -0.1, 0.0], [-0.4, 0.35, 0.05], [0.0, 0.0, 0.0], [-0.2, 0.15, 0.05]])
_PLACE_MAIN = np.array([[0.1, -0.1, 0.0], [0.2, -0.1, -0.4], [0.0, 0.0, 0.0], [0.2, -0.05, -0.3]])
_PLACE_SHARE = np.array([0.73, 0.14, 0.13])
_WEEKDAY = np.array([-0.8, -0.7, -0.6, -0.4, 0.3, 1.3, 1.2])  # Monday first
PEAK_HOUR = np.array([23.0, 21.0, 19.0, 14.0, 10.0])  # by age band


@dataclass(frozen=True)
class Context:
    """What is known of a moment: all arrays [N]; times are unix seconds, the rest are codes."""

    time: Array
    device: Array
    place: Array
    age: Array

    @property
    def hour(self) -> Array:
        """[N] 0..23, UTC."""
        return (self.time - START) % DAY // 3600

    @property
    def weekday(self) -> Array:
        """[N] 0 is Monday."""
        return (self.time - START) // DAY % 7


@dataclass(frozen=True)
class Effects:
    """Global parameters drawn from the seed, laid out for the items of the world.

    taste [labels, FACTORS]: weight of each factor; design [labels, items, LATENTS]: x_t(i);
    item_terms [labels, items, 6]: item_t(i).
    """

    taste: Array
    design: Array
    item_terms: Array


def turn(vectors: Array, angle: float) -> Array:
    """[..., FACTORS] R(angle)' x, so that u . turn(x) = (R(angle) u) . x; angle in radians."""
    aside = np.empty_like(vectors)
    aside[..., 0::2], aside[..., 1::2] = vectors[..., 1::2], -vectors[..., 0::2]
    return np.asarray(np.cos(angle) * vectors + np.sin(angle) * aside)


def _lost(items: Items, latents: Array, click: Array, before: Array, after: Array) -> float:
    """What turning x_t [items, LATENTS] from `before` to `after` takes from the mean of eta.

    The mean is over people (of `latents`) and items, each as often as it is shown and clicked;
    click [items, LATENTS] is x_0. Without it purchases would become rare as the conflict rises:
    what is clicked is what the click's taste likes.
    """
    people = latents[:_ASKED]
    log_shown = BETA * people[:, :FACTORS] @ items.factors.T + items.log_popularity
    shown = np.exp(log_shown - log_shown.max(1, keepdims=True))
    clicked = shown / shown.sum(1, keepdims=True)
    eta = people @ click.T + _INTERCEPT[0] + _MOMENT
    clicked *= click_probability(eta - _MOMENT_STD) + click_probability(eta + _MOMENT_STD)
    gap = people @ (before - after).T
    return float((clicked * gap).sum() / clicked.sum())


def make_effects(items: Items, seed: int, latents: Array, conflict: float = 0.0) -> Effects:
    """The parameters of the world of `seed`, laid out for its items.

    latents [U, LATENTS] are the users', read only where `conflict` is above 0. At 0 the parameters
    are, bit for bit, those of the world before there was a conflict.
    """
    rng = stream(seed, "effects")
    taste = rng.uniform(0.8, 1.2, (len(LABELS), FACTORS)) * np.array(_TASTE)[:, None]
    taste /= np.sqrt(FACTORS)
    place = rng.standard_normal((len(LABELS), 3, len(CATEGORIES)))
    place -= np.einsum("p,tpc->tc", _PLACE_SHARE, place)[:, None]  # no category is liked as such
    place *= np.array(_PLACE_CATEGORY)[:, None, None] / np.sqrt(0.8)
    weekend = np.array([s.weekend for s in STYLES])
    level, words = items.price_level, (items.words - 18.0) / 6.0
    design = np.zeros((len(LABELS), len(items.id), LATENTS))
    terms = np.zeros((len(LABELS), len(items.id), 6))
    for t in range(len(LABELS)):
        design[t, :, :FACTORS] = taste[t] * items.factors
        design[t, :, PRICE] = _PRICE[t] * level
        design[t, :, PRICE + 1 + t] = 1.0
        terms[t, :, 0] = _INTERCEPT[t] + _APPEAL[t] * items.appeal + _WORDS[t] * words
        terms[t, :, 1] = _DEVICE_PRICE[t] * level
        terms[t, :, 2:5] = place[t][:, items.category].T
        terms[t, :, 5] = _WEEKEND_STYLE[t] * weekend[items.style]
    effects = Effects(taste, design, terms)
    return _turned(effects, items, latents, conflict) if conflict else effects


def _turned(effects: Effects, items: Items, latents: Array, conflict: float) -> Effects:
    """The same with the tastes of TURNED turned by conflict x WIDEST, and their means kept."""
    design, terms = effects.design.copy(), effects.item_terms.copy()
    for t in map(LABELS.index, TURNED):
        design[t, :, :FACTORS] = turn(design[t, :, :FACTORS], conflict * WIDEST)
        terms[t, :, 0] += _lost(items, latents, design[0], effects.design[t], design[t])
    return Effects(effects.taste, design, terms)


def row_terms(context: Context) -> Array:
    """[N, 6]: the factors that `Effects.item_terms` is multiplied by."""
    places = np.eye(3)[context.place]
    return np.column_stack(
        [np.ones(len(places)), _DEVICE_SIGN[context.device], places, _WEEKDAY[context.weekday]]
    )


def main_terms(context: Context, label: int) -> Array:
    """[N]: what the moment does to a label whatever the item."""
    swing = np.cos(2 * np.pi * (context.hour - PEAK_HOUR[context.age]) / 24)
    main = _DEVICE_MAIN[label, context.device] + _PLACE_MAIN[label, context.place]
    return np.asarray(_HOUR_AGE[label] * swing * np.sqrt(2) + main)


def offsets(effects: Effects, label: int, context: Context, item: Array) -> Array:
    """[N]: the part of eta that does not depend on the user's latents."""
    product = np.einsum("nj,nj->n", row_terms(context), effects.item_terms[label, item])
    return np.asarray(product + main_terms(context, label))


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), any shape."""
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


def click_probability(eta: Array) -> Array:
    """P(click) with the unrecorded slot averaged out; any shape."""
    return np.asarray(sum(sigmoid(eta + s) for s in SLOTS) / len(SLOTS))


def rating_tail(eta: Array) -> Array:
    """[..., 4]: P(rating > k) for k = 1..4."""
    return sigmoid((eta[..., None] - np.arange(1.5, 5.0)) / RATING_NOISE)


def means(eta: Array) -> Array:
    """[labels, N] predictors to expected labels: two probabilities, mean rating, mean log dwell."""
    return np.stack(
        [click_probability(eta[0]), sigmoid(eta[1]), 1.0 + rating_tail(eta[2]).sum(-1), eta[3]]
    )
