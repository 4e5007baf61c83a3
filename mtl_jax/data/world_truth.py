"""Floor, ceiling and Bayes value of the generated shop, for every task.

floor    popularity and biases, fitted on training rows: smoothed log-odds of item and user, mean
         with shrunk user and item biases, training clicks of the item.
ceiling  the best prediction from the log strictly before the row, knowing the true factors of the
         items and all global parameters, but of the user only profile and log (`world_posterior`).
bayes    the true probabilities and means, all latents known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtl_jax.data.world import World
from mtl_jax.data.world_catalogue import FACTORS, TEST_FROM, VALID_FROM, Array
from mtl_jax.data.world_effects import (
    BETA,
    LABELS,
    Context,
    click_probability,
    main_terms,
    row_terms,
    sigmoid,
)
from mtl_jax.data.world_posterior import Belief, Predictions, context_of, follow

Level = Literal["floor", "ceiling", "bayes"]
LEVELS: tuple[Level, ...] = ("floor", "ceiling", "bayes")
BINARY = ("click", "purchase")
_PRIOR_STRENGTH = 10.0  # rows by which floor biases are shrunk
_BLOCK = 512  # queries ranked at once


def split_rows(world: World, which: Literal["train", "valid", "test"]) -> Array:
    """[n] rows of a part of the log: train before day 42, valid before day 48, test to the end."""
    bounds = {
        "train": (0, VALID_FROM),
        "valid": (VALID_FROM, TEST_FROM),
        "test": (TEST_FROM, 2**62),
    }
    low, high = bounds[which]
    return np.flatnonzero((world.events.time >= low) & (world.events.time < high))


def _sums(keys: Array, values: Array, size: int) -> tuple[Array, Array]:
    return np.bincount(keys, values, minlength=size), np.bincount(keys, minlength=size)


def _floor(world: World, label: str, rows: Array) -> Array:
    """[n] predictions of the floor for one label."""
    events, train = world.events, split_rows(world, "train")
    values = getattr(events, label)[train].astype(float)
    train, values = train[np.isfinite(values)], values[np.isfinite(values)]
    sides = ((events.item, len(world.items.id)), (events.user, len(world.users.id)))
    mean = values.mean() if len(values) else 0.5
    if label in BINARY:
        total = np.full(len(rows), np.log(mean / (1 - mean)))
        for keys, size in sides:
            ones, count = _sums(keys[train], values, size)
            rate = (ones + _PRIOR_STRENGTH * mean) / (count + _PRIOR_STRENGTH)
            total += (np.log(rate / (1 - rate)) - np.log(mean / (1 - mean)))[keys[rows]]
        return sigmoid(total)
    total, rest = np.full(len(rows), mean), values - mean
    for keys, size in sides:
        gap, count = _sums(keys[train], rest, size)
        bias = gap / (count + _PRIOR_STRENGTH)
        total, rest = total + bias[keys[rows]], rest - bias[keys[train]]
    return total


def _symmetric(left: Array, right: Array) -> Array:
    """[I, P]: products left_a right_b + left_b right_a over pairs a <= b, so that with the pairs of
    a symmetric matrix (its diagonal halved, `_pairs`) a matmul gives left' M right.
    """
    a, b = np.triu_indices(left.shape[1])
    return left[:, a] * right[:, b] + left[:, b] * right[:, a]


def _pairs(matrices: Array) -> Array:
    """[n, P]: upper triangles of symmetric matrices [n, D, D], the diagonal halved."""
    a, b = np.triu_indices(matrices.shape[1])
    return matrices[:, a, b] * np.where(a == b, 0.5, 1.0)


@dataclass(frozen=True)
class References:
    """Floor, ceiling and Bayes for the wanted rows of the log.

    rows [n] are rows of `World.events`. labels is {label: {level: predictions [n]}}; purchase,
    rating and log_dwell are predictions given a click. `next_item_ranks` is the retrieval task.
    """

    world: World
    rows: Array
    labels: Mapping[str, Mapping[str, Array]]
    queries: Belief

    @property
    def clicked(self) -> Array:
        """[m] positions in `rows` of the next-item task: rows with a click."""
        return np.flatnonzero(self.world.events.click[self.rows] == 1)

    def next_item_scores(self, level: Level, positions: Array) -> Array:
        """[m, items]: scores of the whole catalogue for the rows at `positions` in `rows`.

        No item is left out, not even one that is not launched yet: nobody is told of launches.
        """
        world, rows = self.world, self.rows[positions]
        if level == "floor":
            train = split_rows(world, "train")
            liked = world.events.item[train[world.events.click[train] == 1]]
            counts = np.bincount(liked, minlength=len(world.items.id)).astype(float)
            return np.broadcast_to(counts, (len(rows), len(counts)))
        latents = world.users.latents[world.events.user[rows]]
        flat = np.zeros((len(rows), latents.shape[1], latents.shape[1]))
        query = Belief(latents, flat) if level == "bayes" else self.queries.take(positions)
        return _catalogue_scores(world, query, context_of(world, rows))

    def next_item_ranks(self, level: Level, positions: Array | None = None) -> Array:
        """[m] ranks from 1 of the rows' own items among the whole catalogue; ties are averaged.

        positions: places in `rows`, by default `clicked`.
        """
        positions = self.clicked if positions is None else positions
        ranks = np.empty(len(positions))
        for start in range(0, len(positions), _BLOCK):
            part = positions[start : start + _BLOCK]
            scores = self.next_item_scores(level, part)
            own = scores[np.arange(len(part)), self.world.events.item[self.rows[part]]][:, None]
            above, equal = (scores > own).sum(1), (scores == own).sum(1)
            ranks[start : start + len(part)] = above + (equal + 1) / 2
        return ranks


def _catalogue_scores(world: World, query: Belief, context: Context) -> Array:
    """[n, items]: log of P(shown and clicked) but for a constant per row."""
    items, design, terms = world.items, world.effects.design[0], world.effects.item_terms[0]
    tastes = np.zeros_like(design)
    tastes[:, :FACTORS] = BETA * items.factors
    # Being shown v moves the taste by cov v BETA; the predictor of the click moves along.
    drawn = query.mean @ tastes.T + 0.5 * _pairs(query.cov) @ _symmetric(tastes, tastes).T
    eta = query.mean @ design.T + _pairs(query.cov) @ _symmetric(tastes, design).T
    eta += row_terms(context) @ terms.T + main_terms(context, 0)[:, None]
    spread = np.sqrt(np.maximum(3.0 * (_pairs(query.cov) @ _symmetric(design, design).T), 0.0))
    # Mean over a normal eta by three Gauss-Hermite points: good in the tails, where it matters.
    click = click_probability(eta - spread) + click_probability(eta + spread)
    click = (click + 4.0 * click_probability(eta)) / 6.0
    return np.asarray(items.log_popularity + drawn + np.log(click))


def references(world: World, which: Literal["valid", "test"] | Array = "test") -> References:
    """Floor, ceiling and Bayes for a part of the log, or for an ascending array of rows."""
    rows = split_rows(world, which) if isinstance(which, str) else np.asarray(which)
    ceiling: Predictions = follow(world, rows)
    labels = {
        label: {
            "floor": _floor(world, label, rows),
            "ceiling": ceiling.labels[t],
            "bayes": getattr(world.truth, label)[rows].astype(float),
        }
        for t, label in enumerate(LABELS)
    }
    return References(world, rows, labels, ceiling.query)


def _auc(label: Array, score: Array) -> float:
    """Area under the ROC curve; ties count half."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    ones = int(label.sum())
    return float((ranks[label == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(label) - ones)))


def summary(world: World, which: Literal["valid", "test"] = "test") -> dict[str, dict[str, float]]:
    """{metric: {level: value}}: AUC of click and purchase, RMSE of rating and log dwell, NDCG@10 of
    the next item.
    """
    found = references(world, which)
    table: dict[str, dict[str, float]] = {}
    for label in LABELS:
        values = getattr(world.events, label)[found.rows].astype(float)
        there = np.isfinite(values)
        table[f"{label}.{'auc' if label in BINARY else 'rmse'}"] = {
            level: _auc(values[there], found.labels[label][level][there])
            if label in BINARY
            else float(np.sqrt(np.mean((values - found.labels[label][level])[there] ** 2)))
            for level in LEVELS
        }
    ranks = {level: found.next_item_ranks(level) for level in LEVELS}
    table["next_item.ndcg@10"] = {
        level: float(np.mean(np.where(r <= 10, 1 / np.log2(r + 1), 0.0)))
        for level, r in ranks.items()
    }
    return table
