"""The compiled step: forward, losses as a vector, balancer, one pullback, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.balance import Balancer, Stats
from mtl_jax.core.rng import key_for
from mtl_jax.core.types import Array, Batch
from mtl_jax.nn.model import Model
from mtl_jax.tasks.task import label_counts, loss_sums
from mtl_jax.train import tables
from mtl_jax.train.config import OptimConfig
from mtl_jax.train.optimiser import clip_factor
from mtl_jax.train.state import TrainState

Metrics = dict[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(
    model: Model,
    balancer: Balancer,
    tx: optax.GradientTransformation,
    rate: optax.Schedule,
    optim: OptimConfig,
) -> Step:
    """`train_step(state, batch) -> (state, metrics)`, pure; jit it with the state donated.

    metrics: loss sums [T] and counts [T], weights [T], norms, `finite` [] (0 = not applied).
    """

    def gradients(state: TrainState, batch: Batch) -> tuple[Any, Any, Array, Array, Any]:
        """Mean over each task's labelled rows of the whole batch, slice by slice."""
        key = key_for(state.key, "dropout", state.step)
        rows = model.gather(state.tables, batch)
        total = label_counts(model.tasks, batch)
        present = (total > 0).astype(jnp.float32)

        def one_slice(part: Batch, k: Array) -> tuple[Any, Array]:
            def losses(params: Any, r: Any) -> Array:
                _, outputs = model.forward(params, r, part, k, train=True)
                return loss_sums(model.tasks, outputs, part)[0] / jnp.maximum(total, 1.0)

            found, pullback = jax.vjp(losses, state.params, rows)
            # These balancers' weights come from their state, not from this slice's losses.
            weights = balancer.update(Stats(found, present, state.step), state.balancer, k).weights
            return pullback(weights), found

        slices = {k: v for k, v in batch.items() if not k.startswith("uniq/")}
        n = batch["user"].shape[0]
        if n == 1:
            grads, found = one_slice({k: v[0] for k, v in slices.items()}, key)
        else:

            def body(carry: Any, x: Any) -> tuple[Any, None]:
                part, k = x
                return jax.tree.map(jnp.add, carry, one_slice(part, k)), None

            first = jax.eval_shape(one_slice, *jax.tree.map(lambda v: v[0], (slices, key[None])))
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), first)
            (grads, found), _ = jax.lax.scan(body, zeros, (slices, jax.random.split(key, n)))
        update = balancer.update(Stats(found, present, state.step), state.balancer, key)
        return *grads, found, total, update

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, row_grads, losses, counts, update = gradients(state, batch)
        norm = jnp.sqrt(optax.tree.norm(grads, squared=True) + tables.norm_squared(row_grads))
        finite = jnp.isfinite(norm) & jnp.all(jnp.isfinite(losses))
        factor = clip_factor(optim, norm)
        grads, row_grads = (jax.tree.map(lambda g: g * factor, x) for x in (grads, row_grads))
        updates, opt = tx.update(grads, state.opt, state.params)
        new = (optax.apply_updates(state.params, updates), opt, update.state)
        old = (state.params, state.opt, state.balancer)
        params, opt, balance = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        new_tables, table_opt = tables.update(
            optim, state.tables, state.table_opt, row_grads,
            {name: batch[f"uniq/{name}"].reshape(-1) for name in state.tables},
            rate(state.step), (state.step + 1).astype(jnp.float32), finite, model.config.width,
        )  # fmt: skip
        metrics = {
            "loss_sum": losses * counts,
            "count": counts,
            "weights": update.weights,
            "grad_norm": norm,
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "finite": finite,
            **{f"balance/{k}": v for k, v in update.info.items()},
        }
        state = TrainState(state.step + 1, params, new_tables, opt, table_opt, balance, state.key)
        return state, metrics

    return train_step
