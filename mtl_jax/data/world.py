"""A shop with known truth: a seeded catalogue, people, and a log of what they saw and did.

`generate(events, seed)` needs numpy only. One number sets the size, from 2,000 to 10 million
events; another, `conflict`, how far the tastes that drive purchase and rating are turned from those
that drive click and dwell (`world_effects`). The log covers 60 days; some items and users appear
only after day 42, and late items are named in words that no earlier item uses. What is shown
depends on taste (exposure bias), a slot that is not recorded moves clicks (noise), ratings are
given more often by those who like and buy, and some labels are lost.
"""

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.data.world_catalogue import (
    Array,
    Items,
    brand_names,
    category_names,
    make_items,
    stream,
)
from mtl_jax.data.world_effects import (
    BETA,
    DWELL_NOISE,
    LABELS,
    RATING_NOISE,
    SLOTS,
    Context,
    Effects,
    make_effects,
    means,
    offsets,
    sigmoid,
)
from mtl_jax.data.world_people import (
    AGES,
    DEVICES,
    FACTORS,
    GENDERS,
    PLACES,
    REGIONS,
    Users,
    draw_devices,
    draw_places,
    draw_times,
    make_users,
)

SMALLEST, LARGEST = 2_000, 10_000_000
_LEAST = 3  # every user has at least so many events
_LOST = 0.03  # share of labels that go missing
_CHUNK = 128  # users simulated together: bounds memory, and is part of the frozen stream


@dataclass(frozen=True)
class Events:
    """The log in order of time (ties: by user). user and item are rows of `Users` and `Items`;
    device and place are codes. Labels are float32, NaN where missing: purchase, rating and
    log_dwell (log1p of seconds) exist only after a click, and a lost click loses the whole row.
    """

    user: Array
    item: Array
    time: Array
    device: Array
    place: Array
    click: Array
    purchase: Array
    rating: Array
    log_dwell: Array


@dataclass(frozen=True)
class Truth:
    """Per event, float32 [N]: P(click), P(purchase | click), mean rating and mean log dwell."""

    click: Array
    purchase: Array
    rating: Array
    log_dwell: Array


@dataclass(frozen=True)
class World:
    """All of it. `truth`, `effects`, and the latents inside items and users are for judges only."""

    seed: int
    items: Items
    users: Users
    effects: Effects
    events: Events
    truth: Truth


def _choose_items(
    rng: np.random.Generator, items: Items, taste: Array, row: Array, time: Array
) -> Array:
    """[N] items shown: p(i) ~ popularity_i exp(BETA u.v_i) among those launched; taste [C, F]."""
    weights = np.exp(BETA * taste @ items.factors.T + items.log_popularity)
    cdf = np.cumsum(weights, axis=1)
    # Items are in order of launch, so what is launched by `time` is a prefix of the table.
    last = np.searchsorted(items.launch, time, side="right") - 1
    point = rng.random(len(row)) * cdf[row, last]
    chosen = np.empty(len(row), np.int64)
    start = np.searchsorted(row, np.arange(len(taste) + 1))
    for u in range(len(taste)):
        part = slice(start[u], start[u + 1])
        chosen[part] = np.searchsorted(cdf[u], point[part], side="right")
    return np.minimum(chosen, last)


def _respond(rng: np.random.Generator, mean: Array, eta: Array) -> list[Array]:
    """Labels [N] of each kind, NaN where there is none. eta, mean: [labels, N]."""
    count = eta.shape[1]
    slot = SLOTS[rng.integers(len(SLOTS), size=count)]
    click = rng.random(count) < sigmoid(eta[0] + slot)
    purchase = rng.random(count) < mean[1]
    noise = rng.random(count)
    felt = eta[2] + RATING_NOISE * (np.log(noise + 1e-300) - np.log1p(-noise))
    rating = np.clip(np.round(felt), 1, 5)
    # Not missing at random: buyers and those who like the thing rate more often.
    eager = 0.55 + 0.25 * purchase + 0.10 * np.tanh(eta[2] - 3.4)
    rated = click & (rng.random(count) < eager)
    dwell = eta[3] + DWELL_NOISE * rng.standard_normal(count)
    kept = rng.random((len(LABELS), count)) >= _LOST
    present = [kept[0], click & kept[1], rated & kept[2], click & kept[3]]
    return [
        np.where(there & kept[0], label, np.nan).astype(np.float32)
        for there, label in zip(present, (click, purchase, rating, dwell), strict=True)
    ]


def _simulate(
    rng: np.random.Generator,
    items: Items,
    users: Users,
    effects: Effects,
    first: int,
    counts: Array,
) -> tuple[list[Array], list[Array]]:
    """Columns of Events and of Truth for the users from `first`, one after the other."""
    row = np.repeat(np.arange(len(counts)), counts)
    user = first + row
    time = draw_times(rng, users, user)
    age = users.age[user]
    moment = Context(time, np.zeros_like(age), np.zeros_like(age), age)
    place = draw_places(rng, age, moment.hour, moment.weekday)
    context = Context(time, draw_devices(rng, users, user, place), place, age)
    taste = users.latents[first : first + len(counts), :FACTORS]
    item = _choose_items(rng, items, taste, row, time)
    latents = users.latents[user]
    eta = np.stack(
        [
            np.einsum("nd,nd->n", latents, effects.design[t, item])
            + offsets(effects, t, context, item)
            for t in range(len(LABELS))
        ]
    )
    mean = means(eta)
    labels = _respond(rng, mean, eta)
    codes = [user.astype(np.int32), item.astype(np.int32), time]
    codes += [context.device.astype(np.int8), place.astype(np.int8)]
    return codes + labels, list(mean.astype(np.float32))


def generate(events: int = 200_000, seed: int = 0, conflict: float = 0.0) -> World:
    """The world of that size, seed and conflict: the same on every machine.

    Raises UserError for sizes outside 2,000 to 10 million and conflicts outside 0 to 1.
    """
    if not SMALLEST <= events <= LARGEST:
        raise UserError(
            f"world: events={events:,} is not between {SMALLEST:,} and {LARGEST:,}: choose another"
        )
    if not 0.0 <= conflict <= 1.0:  # NaN as well
        raise UserError(f"data.world.conflict={conflict} is not between 0 and 1: choose another")
    items, users = make_items(events, seed), make_users(events, seed)
    effects = make_effects(items, seed, users.latents, conflict)
    rng = stream(seed, "events")
    count = len(users.id)
    counts = _LEAST + rng.multinomial(events - _LEAST * count, users.weight / users.weight.sum())
    parts = [
        _simulate(rng, items, users, effects, first, counts[first : first + _CHUNK])
        for first in range(0, count, _CHUNK)
    ]
    order = np.argsort(np.concatenate([codes[2] for codes, _ in parts]), kind="stable")
    columns, truth = (
        [np.concatenate([part[side][c] for part in parts])[order] for c in range(size)]
        for side, size in ((0, len(fields(Events))), (1, len(fields(Truth))))
    )
    return World(seed, items, users, effects, Events(*columns), Truth(*truth))


def to_tables(world: World) -> dict[str, dict[str, Array]]:
    """Tables "events", "items", "users" of plain columns: what a shop would know, and no truth.

    events: user, item (ids), time (unix seconds), device, place, and the labels (NaN = missing).
    items: item, title, description, category, brand, price (currency), log_price.
    users: user, age, gender, region.
    """
    events, items, users = world.events, world.items, world.users
    log: dict[str, Array] = {
        "user": users.id[events.user],
        "item": items.id[events.item],
        "time": events.time,
        "device": np.array(DEVICES)[events.device],
        "place": np.array(PLACES)[events.place],
    }
    log.update({label: getattr(events, label) for label in LABELS})
    return {
        "events": log,
        "items": {
            "item": items.id,
            "title": items.title,
            "description": items.description,
            "category": category_names(items),
            "brand": brand_names(items),
            "price": items.price,
            "log_price": np.log(items.price),
        },
        "users": {
            "user": users.id,
            "age": np.array(AGES)[users.age],
            "gender": np.array(GENDERS)[users.gender],
            "region": np.array(REGIONS)[users.region],
        },
    }


def world_hash(world: World) -> str:
    """SHA-256 of texts, integers and labels.

    Real numbers enter rounded (price to cents, dwell to 1/1000), since the last bits of exp and
    log differ between machines.
    """
    events, items, users = world.events, world.items, world.users
    digest = hashlib.sha256()
    for texts in (items.id, items.title, items.description, users.id):
        digest.update("\n".join(texts).encode())
    whole = [items.launch, items.category, items.brand, items.kind, items.style]
    whole += [users.age, users.gender, users.region, users.first_day]
    whole += [events.user, events.item, events.time, events.device, events.place]
    scaled = [(items.price, 100.0), (events.click, 1.0), (events.purchase, 1.0)]
    scaled += [(events.rating, 1.0), (events.log_dwell, 1000.0)]
    whole += [np.nan_to_num(np.rint(np.float64(x) * scale), nan=-1.0) for x, scale in scaled]
    for numbers in whole:
        digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()
