"""A balancer as an optax transformation of updates with a leading task axis."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance.gramian import gramian
from mtl_jax.balance.moving import combined
from mtl_jax.balance.stats import Balancer, Stats
from mtl_jax.core.errors import UserError
from mtl_jax.core.rng import key_for
from mtl_jax.core.types import Array


class BalancedState(NamedTuple):
    """The balancer's state, the number of updates made, and the key they draw from."""

    inner: Any
    step: Array
    key: Array


def as_optax(
    balancer: Balancer, n_tasks: int, seed: int = 0
) -> optax.GradientTransformationExtraArgs:
    """Updates with leaves [T, ...] in, their balanced sum without the task axis out.

    tx = optax.chain(as_optax(balance.get("upgrad"), T), optax.adam(1e-3))
    state = tx.init(params)
    updates, state = tx.update(task_grads, state, params, losses=L)

    losses [T] is always needed, present [T] where tasks may be absent, cross_gram [T, T] where the
    balancer asks for it. UserError for FAMO, which looks at the losses after the step, and groups.
    """

    if getattr(balancer, "groups", "whole") != "whole":
        raise UserError("as_optax: it knows no groups of parameters; use groups='whole'")
    if balancer.needs == "losses_after":
        raise UserError("as_optax: this balancer needs the losses after the step: call it yourself")

    def init(params: Any) -> BalancedState:
        inner = balancer.init(n_tasks, params)
        return BalancedState(inner, jnp.zeros((), jnp.int32), jax.random.PRNGKey(seed))

    def update(
        updates: Any, state: BalancedState, params: Any = None, *, losses: Array,
        present: Array | None = None, cross_gram: Array | None = None,
        **extra: Any,
    ) -> tuple[Any, BalancedState]:  # fmt: skip
        for leaf in jax.tree.leaves(updates):
            if leaf.shape[:1] != (n_tasks,):
                raise UserError(
                    f"as_optax: an update has the shape {leaf.shape}; its first axis must be the "
                    f"{n_tasks} tasks"
                )
        if balancer.needs == "cross_gram" and cross_gram is None:
            raise UserError("as_optax: this balancer needs update(..., cross_gram=J1 J2')")
        there = jnp.ones(n_tasks) if present is None else present
        gram = gramian(updates) if balancer.needs == "gram" else None
        grads = updates if balancer.needs == "grads" else None
        stats = Stats(losses, there, state.step, gram, cross_gram, grads)
        found = balancer.update(stats, state.inner, key_for(state.key, "balance", state.step))
        whole = combined(found.weights, updates) if found.direction is None else found.direction
        return whole, BalancedState(found.state, state.step + 1, state.key)

    return optax.GradientTransformationExtraArgs(init, update)
