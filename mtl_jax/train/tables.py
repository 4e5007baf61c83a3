"""Row-wise lazy Adam for embedding tables: moments and values of touched rows only.

A row that a batch does not touch keeps value and moments as they are (dense Adam would decay its
moments and go on moving it); bias correction counts the run's steps. Decay is decoupled and acts on
touched rows. This is the LazyAdam of the sparse-embedding literature, per row.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.train.config import OptimConfig

TableState = dict[str, dict[str, Array]]  # table -> {"mu", "nu"}, each [N, D]


def init(tables: Mapping[str, Array]) -> TableState:
    """Zero moments."""
    return {k: {"mu": jnp.zeros_like(v), "nu": jnp.zeros_like(v)} for k, v in tables.items()}


def update(
    config: OptimConfig,
    tables: Mapping[str, Array],
    state: TableState,
    grads: Mapping[str, Array],
    ids: Mapping[str, Array],
    rate: Array,
    count: Array,
    apply: Array,
    columns: int | None = None,
) -> tuple[dict[str, Array], TableState]:
    """One step on the rows `ids` [R] (distinct; beyond the table = padding) with grads [R, D].

    apply: bool []; False leaves everything as it is. Untouched rows are never read or written.
    columns: decay acts on the first so many (the rest are biases); None is all.
    """
    new_tables: dict[str, Array] = {}
    new_state: TableState = {}
    for name, table in tables.items():
        at, g = ids[name], grads[name]
        decay = config.table_decay * (jnp.arange(table.shape[1]) < (columns or table.shape[1]))
        mu0, nu0 = state[name]["mu"], state[name]["nu"]
        old, mu, nu = (x.at[at].get(mode="fill", fill_value=0) for x in (table, mu0, nu0))
        b1, b2 = config.beta1, config.beta2
        mu1, nu1 = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g * g
        step = (mu1 / (1 - b1**count)) / (jnp.sqrt(nu1 / (1 - b2**count)) + 1e-8)
        new = old - rate * (step + decay * old)
        new_tables[name] = _write(table, at, new, old, apply)
        new_state[name] = {
            "mu": _write(mu0, at, mu1, mu, apply),
            "nu": _write(nu0, at, nu1, nu, apply),
        }
    return new_tables, new_state


def _write(table: Array, at: Array, new: Array, old: Array, apply: Array) -> Array:
    values = jnp.where(apply, new, old)
    return table.at[at].set(values, unique_indices=True, mode="drop")


def norm_squared(grads: Mapping[str, Array]) -> Array:
    """Squared norm of all row gradients []."""
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(g)) for g in jax.tree.leaves(dict(grads))]))
