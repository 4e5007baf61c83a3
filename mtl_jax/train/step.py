"""The compiled step: forward, losses as a vector, balancer, pullbacks, update."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance import Balancer, Stats
from mtl_jax.core.placement import whole
from mtl_jax.core.rng import key_for
from mtl_jax.core.types import Array, Batch
from mtl_jax.tasks.task import loss_sums
from mtl_jax.train import tables
from mtl_jax.train.config import BalanceConfig, OptimConfig
from mtl_jax.train.mesh import by_rows, for_update, for_use
from mtl_jax.train.optimiser import clip_factor
from mtl_jax.train.state import TrainState
from mtl_jax.train.task_gradients import Found, flat_weights, make_gradients

Metrics = dict[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(
    model: Any,
    balancer: Balancer,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    optim: OptimConfig,
    balance: BalanceConfig | None = None,
    alpha: tuple[float, ...] = (),
    go: Array | bool = True,
) -> Step:
    """`train_step(state, batch) -> (state, metrics)`, pure; jit it with the state donated.

    model: `mtl_jax.nn.model.Model`, or what has its tasks, config.width, gather, shared, predict.
    balance: where task gradients are taken; alpha [T]: what losses are multiplied by before they
        are balanced, () is 1.
    go: [] False applies nothing, as for a non-finite update; only the count of steps moves.
    metrics: loss sums [T] and counts [T], weights [T], norms, `finite` [] (0 = not applied), and
        what the balancer says and saw as "balance/...".
    """
    balance = balance or BalanceConfig()
    gradients = make_gradients(model, balancer, balance, alpha)
    own_weight = jnp.asarray(alpha or (1.0,) * len(model.tasks), jnp.float32)

    def after_losses(state: TrainState, params: Any, new_tables: Any, batch: Batch) -> Array:
        """Losses [T] of the same batch, in the same noise, after the update."""
        key = key_for(state.key, "dropout", state.step)
        rows, params = model.gather(new_tables, batch), for_use(params)
        slices = {k: v for k, v in batch.items() if not k.startswith("uniq/")}
        n = batch["user"].shape[0]
        keys = key[None] if n == 1 else jax.random.split(key, n)

        def one(total: Array, x: Any) -> tuple[Array, None]:
            part, k = x
            rep = model.shared(params, rows, part, k, True)
            outputs = model.predict(params, rep, part, key_for(k, "predict"), True)
            return total + loss_sums(model.tasks, outputs, part)[0], None

        return jax.lax.scan(one, jnp.zeros(len(model.tasks)), (slices, keys))[0]

    def balancer_state(
        state: TrainState, found: Found, params: Any, new_tables: Any, batch: Batch
    ) -> Any:
        """The balancer's next state; some want to see what the step has done."""
        if balancer.needs != "losses_after":
            return found.update.state
        after = after_losses(state, params, new_tables, batch) / jnp.maximum(found.counts, 1.0)
        present = ((found.counts > 0) & (own_weight > 0)).astype(jnp.float32)
        both = Stats(found.losses * own_weight, present, state.step)
        both = both._replace(losses_after=after * own_weight)
        return balancer.update(
            both, state.balancer, key_for(state.key, "balance", state.step)
        ).state

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        found = gradients(replace(state, params=for_use(state.params)), batch)
        grads, row_grads = for_update(found.grads), found.rows
        norm = jnp.sqrt(optax.tree.norm(grads, squared=True) + tables.norm_squared(row_grads))
        finite = jnp.isfinite(norm) & jnp.all(jnp.isfinite(found.losses)) & go
        factor = clip_factor(optim, norm)
        grads, row_grads = (jax.tree.map(lambda g: g * factor, x) for x in (grads, row_grads))
        updates, opt = tx.update(grads, state.opt, state.params)
        new = (optax.apply_updates(state.params, updates), opt)
        params, opt = jax.tree.map(
            lambda n, o: jnp.where(finite, n, o), new, (state.params, state.opt)
        )
        new_tables, table_opt = by_rows(partial(tables.update, optim, columns=model.config.width))(
            state.tables, state.table_opt, row_grads,
            {name: whole(batch[f"uniq/{name}"].reshape(-1)) for name in state.tables},
            rate(state.step), (state.step + 1).astype(jnp.float32), finite,
        )  # fmt: skip
        told = balancer_state(state, found, params, new_tables, batch)
        sound = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(told)]
        kept = jnp.all(jnp.stack([finite, *sound]))  # losses after a wild step may be anything
        told = jax.tree.map(lambda n, o: jnp.where(kept, n, o), told, state.balancer)
        weights = flat_weights(found.update)
        metrics = {
            "loss_sum": found.losses * found.counts,
            "count": found.counts,
            "weights": weights * own_weight,
            "grad_norm": norm,
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "finite": finite,
            **{f"balance/{k}": v for k, v in {**found.update.info, **found.seen}.items()},
        }
        state = TrainState(state.step + 1, params, new_tables, opt, table_opt, told, state.key)
        return state, metrics

    return train_step
