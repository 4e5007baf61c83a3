"""Biased matrix factorisation, the low-rank baseline: mu + b_u + b_i + <u, v> (Koren et al., 2009).

    python -m experiments.mf --config=experiments/configs/ml100k.py --set=data.folder=ml-100k \
        --workdir=runs/mf --target=rating --part=valid

Alternating least squares on the training rows of one binary or regression task, nothing else read;
whoever was not met in training has zeros. Prints its metric beside the mean's and the biases'.
"""

import json

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.types import HostArray
from mtl_jax.data.pipeline import PARTS
from mtl_jax.job import prepare_data
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.bootstrap import Entry, estimate
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells

TASK = flags.DEFINE_string("target", "rating", "The binary or regression task.")
PART = flags.DEFINE_enum("part", "valid", list(PARTS)[1:], "Which part is predicted.")
RANK = flags.DEFINE_integer("rank", 8, "Width of the factors; 0 leaves the biases.")
STRENGTH = flags.DEFINE_float("strength", 20.0, "Ridge penalty, in rows.")
SWEEPS = flags.DEFINE_integer("sweeps", 10, "Sweeps over users and items.")


def solve(
    own: HostArray, others: HostArray, target: HostArray, n: int, strength: float
) -> HostArray:
    """Ridge weights [n, k] of each owner: target [N] from features others [N, k], owner own [N]."""
    k = others.shape[1]
    gram = np.zeros((n, k, k))
    for a in range(k):
        for b in range(a, k):
            gram[:, a, b] = gram[:, b, a] = np.bincount(own, others[:, a] * others[:, b], n)
    right = np.stack([np.bincount(own, others[:, a] * target, n) for a in range(k)], -1)
    found: HostArray = np.linalg.solve(gram + strength * np.eye(k), right[..., None])[..., 0]
    return found


def factorise(
    user: HostArray,
    item: HostArray,
    y: HostArray,
    sizes: tuple[int, int],
    rank: int,
    strength: float,
    sweeps: int,
) -> tuple[float, HostArray, HostArray]:
    """mu, users [n_users, 1 + rank], items [n_items, 1 + rank]; column 0 is the bias."""
    mu = float(y.mean())
    rng = np.random.default_rng(0)
    users, items = np.zeros((sizes[0], 1 + rank)), np.zeros((sizes[1], 1 + rank))
    items[:, 1:] = 0.3 * rng.standard_normal((sizes[1], rank))
    for _ in range(sweeps):
        for own, other, mine, theirs in ((user, item, users, items), (item, user, items, users)):
            seen = theirs[other].copy()
            target = y - mu - seen[:, 0]
            seen[:, 0] = 1.0
            mine[:] = solve(own, seen, target, len(mine), strength)
    return mu, users, items


def predict(mu: float, users: HostArray, items: HostArray) -> HostArray:
    """[n] of rows of users [n, 1 + rank] and items [n, 1 + rank]."""
    found: HostArray = mu + users[:, 0] + items[:, 0] + (users[:, 1:] * items[:, 1:]).sum(-1)
    return found


def main() -> None:
    """Fit, predict, print and write mf.json."""
    config, workdir = load_config()
    fit = {t.name: t for t in config.tasks if t.kind in ("binary", "regression")}
    if TASK.value not in fit:
        raise UserError(f"--target={TASK.value}: no such task. {nearest(TASK.value, fit)}")
    task = fit[TASK.value]
    data = prepare_data(config, workdir)
    user, item = (np.asarray(data.events[name]) for name in ("user", "item"))
    y = np.asarray(data.events[f"label_{task.label}"], np.float64)
    train, asked = (
        rows[np.isfinite(y[rows])] for rows in (data.part(0), data.part(PARTS[PART.value]))
    )
    metric = "auc" if task.kind == "binary" else "rmse"
    sizes = (data.schema.n_users, data.schema.n_items)
    found: dict[str, Entry] = {}
    table = Table(title=f"{PART.value}: {task.name}, {len(asked):,} rows")
    for head in ("what", metric, "95 % interval"):
        table.add_column(head)
    for name, rank in (("biases", 0), (f"factors, rank {RANK.value}", RANK.value)):
        mu, users, items = factorise(
            user[train], item[train], y[train], sizes, rank, STRENGTH.value, SWEEPS.value
        )
        users[0] = items[0] = 0.0  # the unknown
        guess = predict(mu, users[user[asked]], items[item[asked]])
        guess = np.clip(guess, task.low, task.high) if task.kind == "regression" else guess
        try:
            found[name] = estimate(METRICS[task.kind][metric], y[asked], guess, user[asked])
        except Undefined as error:
            raise UserError(f"--part={PART.value}: {error}") from None
        table.add_row(name, *entry_cells(found[name])[:2])
    written = {"data_split": data.split_hash, PART.value: {task.name: found}}
    (workdir / "mf.json").write_text(json.dumps(written, indent=1) + "\n")
    Console().print(table)


if __name__ == "__main__":
    run(main)
