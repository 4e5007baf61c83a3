"""Row-wise lazy Adam and Adagrad for embedding tables: what a batch touches, and nothing else.

A row that a batch does not touch keeps value and state as they are, bit for bit; neither of its
state nor of its value is anything read or written. Gradients are those of distinct rows, summed
over the row's look-ups, so that clipping's norm is that of the dense gradient. Decay is decoupled
and acts on touched rows.

adam: the LazyAdam of the sparse-embedding literature, torch.optim.SparseAdam: moments mu, nu; bias
    correction counts the run's steps and not the row's (dense Adam would also decay the moments of
    untouched rows and go on moving them).
adagrad: Duchi et al. 2011, torch.optim.Adagrad on sparse gradients: sum += g^2,
    x -= rate g / (sqrt(sum) + 1e-10); no bias correction, nothing decays. One sum per element and
    not per row (FBGEMM's row-wise Adagrad): a row holds biases beside its vector, whose gradients
    are of another size.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array
from mtl_jax.train.config import OptimConfig

RowState = dict[str, Array]
TableState = dict[str, RowState]  # table -> {name of STATE: [N, D]}
STATE: dict[str, tuple[str, ...]] = {"adam": ("mu", "nu"), "adagrad": ("sum",)}


def init(tables: Mapping[str, Array], optimiser: str = "adam") -> TableState:
    """Zero state of "adam" or "adagrad"."""
    return {k: {name: jnp.zeros_like(v) for name in STATE[optimiser]} for k, v in tables.items()}


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
    moved = {"adam": _adam, "adagrad": _adagrad}[config.table_optimiser]
    rate = rate * config.table_rate
    new_tables: dict[str, Array] = {}
    new_state: TableState = {}
    for name, table in tables.items():
        at, g = ids[name], grads[name]
        decay = config.table_decay * (jnp.arange(table.shape[1]) < (columns or table.shape[1]))
        old = _read(table, at)
        rows = {k: _read(v, at) for k, v in state[name].items()}
        step, new_rows = moved(config, rows, g, count)
        new = old - rate * (step + decay * old)
        new_tables[name] = _write(table, at, new, old, apply)
        new_state[name] = {
            k: _write(v, at, new_rows[k], rows[k], apply) for k, v in state[name].items()
        }
    return new_tables, new_state


def _adam(config: OptimConfig, rows: RowState, g: Array, count: Array) -> tuple[Array, RowState]:
    """What is taken off per unit of rate [R, D], and the rows' new state."""
    b1, b2 = config.beta1, config.beta2
    mu, nu = b1 * rows["mu"] + (1 - b1) * g, b2 * rows["nu"] + (1 - b2) * g * g
    step = (mu / (1 - b1**count)) / (jnp.sqrt(nu / (1 - b2**count)) + 1e-8)
    return step, {"mu": mu, "nu": nu}


def _adagrad(config: OptimConfig, rows: RowState, g: Array, count: Array) -> tuple[Array, RowState]:
    total = rows["sum"] + g * g
    return g / (jnp.sqrt(total) + 1e-10), {"sum": total}


def _read(table: Array, at: Array) -> Array:
    return table.at[at].get(mode="fill", fill_value=0)


def _write(table: Array, at: Array, new: Array, old: Array, apply: Array) -> Array:
    values = jnp.where(apply, new, old)
    return table.at[at].set(values, unique_indices=True, mode="drop")


def norm_squared(grads: Mapping[str, Array]) -> Array:
    """Squared norm of all row gradients []."""
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(g)) for g in jax.tree.leaves(dict(grads))]))
