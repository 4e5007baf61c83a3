"""The training state: everything that a step reads and writes."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance import Balancer
from mtl_jax.core.types import Array
from mtl_jax.train import tables, task_gradients
from mtl_jax.train.config import BalanceConfig


@jax.tree_util.register_dataclass
@dataclass
class TrainState:
    """step [], parameters, tables, their optimiser states, balancer state, key."""

    step: Array
    params: Any
    tables: Any
    opt: Any
    table_opt: Any
    balancer: Any
    key: Array


def create(
    params: Any,
    table_values: Any,
    tx: optax.GradientTransformation,
    balancer: Balancer,
    n_tasks: int,
    key: Array,
    balance: BalanceConfig | None = None,
    reached: tuple[str, ...] = (),
    table_optimiser: str = "adam",
) -> TrainState:
    """The state of step 0; call it inside one jit with out-shardings."""
    balance = balance or BalanceConfig()
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        tables=table_values,
        opt=tx.init(params),
        table_opt=tables.init(table_values, table_optimiser),
        balancer=task_gradients.start(
            balancer, balance, params, tuple(table_values), n_tasks, reached
        ),
        key=key,
    )
