"""Users of the generated shop: profiles, tastes given the profile, and habits.

Profiles move the mean of the taste, so that a stranger is not wholly unknown; habits decide when,
where and on what a person shops, and so which contexts go with which profiles.
"""

from dataclasses import dataclass

import numpy as np

from mtl_jax.data.world_catalogue import DAY, DAYS, FACTORS, START, TRAIN_DAYS, Array, stream
from mtl_jax.data.world_effects import BIAS_STD, LATENTS, PEAK_HOUR, PRICE

AGES = ("18-24", "25-34", "35-49", "50-64", "65+")
GENDERS = ("female", "male", "other")
REGIONS = ("north", "south", "east", "west", "centre", "islands")
DEVICES = ("phone", "desktop", "tablet")
PLACES = ("home", "work", "commute")

_LATE_SHARE, _LAST_FIRST_DAY = 0.08, 54
_PROFILE_VARIANCE = (0.14, 0.11, 0.10)  # of the taste, by age, gender and region
_TASTE_VARIANCE, _PRICE_VARIANCE = 0.65, 0.4
_AGE_PRICE = np.array([-0.7, -0.3, 0.1, 0.3, 0.2])  # the young shun dear things
_RETIRED = 4
_AGE_DEVICE = np.array(
    [[1.2, 0, 0], [0.9, 0.3, 0], [0.4, 0.6, 0.2], [0, 0.8, 0.5], [-0.3, 0.7, 0.9]]
)
_PLACE_DEVICE = np.array([[0.0, 0.0, 0.3], [-0.3, 1.2, -1.0], [1.5, -2.0, 0.0]])
_WEEKEND_LIFT = np.array([0.5, 0.4, 0.3, 0.0, -0.2])


@dataclass(frozen=True)
class Users:
    """Everyone. All arrays are [U]; first_day counts from the first day of the log.

    age, gender and region are codes. latents [U, LATENTS] are truth; prior_mean [U, LATENTS] and
    prior_variance [LATENTS] are what the profile tells of them; weight, hour_shift and
    device_habit [U, 3] drive the log.
    """

    id: Array
    age: Array
    gender: Array
    region: Array
    first_day: Array
    weight: Array
    hour_shift: Array
    device_habit: Array
    prior_mean: Array
    prior_variance: Array
    latents: Array


def user_count(events: int) -> int:
    """About 125 events each."""
    return max(40, round(events / 125))


def _first_days(rng: np.random.Generator, count: int) -> Array:
    """[U] days: most people are there from day 0, _LATE_SHARE come only after the training time."""
    late = round(_LATE_SHARE * count)
    days = np.where(rng.random(count) < 0.75, 0, rng.integers(0, 36, count))
    days[rng.permutation(count)[:late]] = rng.integers(TRAIN_DAYS, _LAST_FIRST_DAY, late)
    return days


def make_users(events: int, seed: int) -> Users:
    """The people of a log of `events` rows."""
    rng = stream(seed, "users")
    count = user_count(events)
    age = rng.choice(len(AGES), count, p=[0.18, 0.26, 0.26, 0.18, 0.12])
    gender = rng.choice(len(GENDERS), count, p=[0.49, 0.47, 0.04])
    region = rng.integers(len(REGIONS), size=count)
    mean = np.zeros((count, LATENTS))
    for code, names, part in zip(
        (age, gender, region), (AGES, GENDERS, REGIONS), _PROFILE_VARIANCE, strict=True
    ):
        table = np.sqrt(part) * rng.standard_normal((len(names), FACTORS))
        mean[:, :FACTORS] += table[code] - table[code].mean(0)
    mean[:, PRICE] = _AGE_PRICE[age]
    variance = np.array([_TASTE_VARIANCE] * FACTORS + [_PRICE_VARIANCE] + [b**2 for b in BIAS_STD])
    first_day = _first_days(rng, count)
    return Users(
        id=np.array([f"u{n:06d}" for n in range(count)]),
        age=age,
        gender=gender,
        region=region,
        first_day=first_day,
        weight=np.exp(0.5 * rng.standard_normal(count)) * (DAYS - first_day),
        hour_shift=rng.integers(-2, 3, count),
        device_habit=_AGE_DEVICE[age] + 0.7 * rng.standard_normal((count, 3)),
        prior_mean=mean,
        prior_variance=variance,
        latents=mean + np.sqrt(variance) * rng.standard_normal(mean.shape),
    )


def _draw(rng: np.random.Generator, weights: Array) -> Array:
    """[N] codes drawn from unnormalised weights [N, C]."""
    cdf = np.cumsum(weights, axis=1)
    return (rng.random(len(cdf))[:, None] * cdf[:, -1:] >= cdf[:, :-1]).sum(1)


def draw_times(rng: np.random.Generator, users: Users, user: Array) -> Array:
    """[N] unix seconds at which the given users come: by weekday and hour habits of their age."""
    day = np.arange(DAYS)
    lift = 1.0 + _WEEKEND_LIFT[:, None] * (day % 7 >= 5)
    cdf = np.concatenate([np.zeros((len(AGES), 1)), np.cumsum(lift, axis=1)], axis=1)
    age, first = users.age[user], users.first_day[user]
    low = cdf[age, first]
    point = low + rng.random(len(user)) * (cdf[age, -1] - low)
    days = np.clip((point[:, None] >= cdf[age]).sum(1) - 1, first, DAYS - 1)
    hours = np.exp(1.2 * np.cos(2 * np.pi * (np.arange(24) - PEAK_HOUR[:, None]) / 24)) + 0.15
    hour = (_draw(rng, hours[age]) + users.hour_shift[user]) % 24
    return START + days * DAY + hour * 3600 + rng.integers(0, 3600, len(user))


def draw_places(rng: np.random.Generator, age: Array, hour: Array, weekday: Array) -> Array:
    """[N] codes of PLACES: people of working age are at work and on the way on weekdays."""
    away = (age != _RETIRED) & (weekday < 5)
    at_work = away & (hour >= 9) & (hour < 17)
    moving = away & np.isin(hour, (7, 8, 17, 18))
    weights = np.tile([0.88, 0.03, 0.09], (len(age), 1))
    weights[at_work] = (0.3, 0.6, 0.1)
    weights[moving] = (0.35, 0.15, 0.5)
    return _draw(rng, weights)


def draw_devices(rng: np.random.Generator, users: Users, user: Array, place: Array) -> Array:
    """[N] codes of DEVICES, by habit and place."""
    return _draw(rng, np.exp(users.device_habit[user] + _PLACE_DEVICE[place]))
