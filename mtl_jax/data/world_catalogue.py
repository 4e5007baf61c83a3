"""Items of the generated shop: texts, prices, and the factors that the texts reveal.

v_i = kind + style + brand tier + price + little noise, about unit variance in each of FACTORS
dimensions. Kinds and styles take their factors partly from hand-written traits, so that close
meanings have close factors, and partly from chance, so that a category does not give them away.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtl_jax.data.world_phrases import (
    BRANDS,
    COLOURS,
    EXTRAS,
    SENTENCES,
    STYLES,
    VARIATIONS,
    Style,
)
from mtl_jax.data.world_words import CATEGORIES, KIND_CATEGORY, KINDS, TRAITS

Array = np.ndarray[Any, np.dtype[Any]]

FACTORS = 4
DAY = 86_400
START = 1_704_067_200  # Monday 1 January 2024, 00:00 UTC
TRAIN_DAYS, VALID_DAYS, DAYS = 42, 48, 60  # train before day 42, valid before 48, test before 60
VALID_FROM, TEST_FROM = START + TRAIN_DAYS * DAY, START + VALID_DAYS * DAY

_LATE_SHARE, _FIRST_DAY_SHARE, _LAST_LAUNCH_DAY = 0.12, 0.55, 55
_TRAIT_SHARE, _KIND_SCALE, _STYLE_SCALE = 0.9, 0.80, 0.60
_TIER_SCALE, _PRICE_SCALE, _NOISE = 0.2, 0.15, 0.12
_LUXURY = next(s for s, style in enumerate(STYLES) if "luxury" in style.early)


def stream(seed: int, part: str) -> np.random.Generator:
    """A generator of random numbers of its own for each part, whatever the others draw."""
    return np.random.default_rng([seed, *part.encode()])


@dataclass(frozen=True)
class Items:
    """The catalogue, in order of launch (ties of day 0 in order of drawing). All arrays are [I].

    launch is in unix seconds; category, brand, kind and style are codes into the vocabularies.
    factors [I, FACTORS] and the last six arrays are truth: a model must not see them.
    """

    id: Array
    title: Array
    description: Array
    price: Array
    launch: Array
    category: Array
    brand: Array
    kind: Array
    style: Array
    unseen_words: Array  # bool: launched after the training time, named in words unseen before
    log_popularity: Array
    appeal: Array  # [I]: quality, in units of a standard deviation
    words: Array  # number of words of the description
    factors: Array

    @property
    def price_level(self) -> Array:
        """[I]: log price, centred and scaled by fixed constants."""
        return (np.log(self.price) - 4.4) / 1.3


def item_count(events: int) -> int:
    """126 items for 2,000 events, 2,000 for 200,000 and at most 20,000."""
    return int(np.clip(round(2000 * (events / 200_000) ** 0.6), 120, 20_000))


def _factor_tables(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Factors of kinds [66, F], styles [12, F], tiers [3, F] and of the price [F]."""

    axes = np.linalg.qr(rng.standard_normal((len(TRAITS), FACTORS)))[0]

    def mixed(traits: Array, share: float, scale: float) -> Array:
        meant = (traits - traits.mean(0)) / traits.std(0) @ axes
        own = rng.standard_normal(meant.shape)
        table = np.sqrt(share) * meant / meant.std(0) + np.sqrt(1 - share) * own
        return scale * (table - table.mean(0)) / table.std(0)

    kinds = mixed(np.array([k.traits for k in KINDS], float), _TRAIT_SHARE, _KIND_SCALE)
    styles = mixed(np.array([s.traits for s in STYLES], float), _TRAIT_SHARE, _STYLE_SCALE)
    tier = _TIER_SCALE * rng.choice([-1.0, 1.0], FACTORS) * np.array([[-1.0], [0.0], [1.0]])
    return kinds, styles, tier, _PRICE_SCALE * rng.choice([-1.0, 1.0], FACTORS)


def _launches(rng: np.random.Generator, count: int) -> Array:
    """[I] unix seconds, ascending: most on day 0, some during training, _LATE_SHARE after it."""
    late = round(_LATE_SHARE * count)
    first = round(_FIRST_DAY_SHARE * count)
    during = rng.random(count - late - first) * TRAIN_DAYS * DAY
    after = (TRAIN_DAYS + rng.random(late) * (_LAST_LAUNCH_DAY - TRAIN_DAYS)) * DAY
    return START + np.concatenate([np.zeros(first), np.sort(during), np.sort(after)]).astype(
        np.int64
    )


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _text(
    rng: np.random.Generator, kind: int, style: Style, brand: str, late: bool
) -> tuple[str, str]:
    """Title and description of one item, in the words of its time."""
    names = KINDS[kind].late if late else KINDS[kind].early
    adjectives = style.late if late else style.early
    title = f"{brand} {_pick(rng, adjectives)} {_pick(rng, names)}{_pick(rng, VARIATIONS)}"
    a, b = rng.permutation(len(adjectives))[:2]
    blanks = {
        "a": adjectives[a],
        "b": adjectives[b],
        "kind": _pick(rng, names),
        "use": _pick(rng, style.late_use if late else style.early_use),
        "brand": brand,
        "colour": _pick(rng, COLOURS),
    }
    return title, (_pick(rng, SENTENCES) + _pick(rng, EXTRAS)).format(**blanks)


def make_items(events: int, seed: int) -> Items:
    """The catalogue for a log of `events` rows."""
    rng = stream(seed, "items")
    count = item_count(events)
    kinds, styles, tiers, price_effect = _factor_tables(rng)
    launch = _launches(rng, count)
    late = launch >= VALID_FROM
    kind = rng.integers(len(KINDS), size=count)
    style = rng.integers(len(STYLES), size=count)
    brand = rng.integers(len(BRANDS), size=count)
    tier = np.array([t for _, t in BRANDS])[brand]
    usual = np.log([k.price for k in KINDS])[kind]
    dearer = 0.35 * (tier - 1) + 0.5 * (style == _LUXURY) + 0.3 * rng.standard_normal(count)
    texts = [
        _text(rng, k, STYLES[s], BRANDS[b][0], bool(x))
        for k, s, b, x in zip(kind, style, brand, late, strict=True)
    ]
    factors = kinds[kind] + styles[style] + tiers[tier] + dearer[:, None] / 0.45 * price_effect
    factors += _NOISE * rng.standard_normal(factors.shape)
    by_kind, by_style = rng.standard_normal(len(KINDS)), rng.standard_normal(len(STYLES))
    by_brand = 0.5 * rng.standard_normal(len(BRANDS)) + 0.6 * np.array([t - 1 for _, t in BRANDS])
    appeal = 0.5 * by_kind[kind] + 0.4 * by_style[style] + by_brand[brand]
    popularity = 0.4 * by_kind[::-1][kind] + 0.3 * rng.standard_normal(count)
    return Items(
        id=np.array([f"i{n:05d}" for n in range(count)]),
        title=np.array([t for t, _ in texts]),
        description=np.array([d for _, d in texts]),
        price=np.round(np.exp(usual + dearer), 2),
        launch=launch,
        category=np.array(KIND_CATEGORY)[kind],
        brand=brand,
        kind=kind,
        style=style,
        unseen_words=late,
        log_popularity=popularity,
        appeal=appeal + 0.25 * rng.standard_normal(count),
        words=np.array([len(d.split()) for _, d in texts]),
        factors=factors,
    )


def category_names(items: Items) -> Array:
    """[I] names of the items' categories."""
    return np.array(CATEGORIES)[items.category]


def brand_names(items: Items) -> Array:
    """[I] names of the items' brands."""
    return np.array([name for name, _ in BRANDS])[items.brand]
