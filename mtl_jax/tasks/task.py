"""A task's loss over a batch: masked sums and counts, a vector over tasks, never summed here."""

from typing import Any

import jax.numpy as jnp

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch
from mtl_jax.nn.towers import PENALTIES, Outputs
from mtl_jax.tasks.losses import LOSSES, WITH_OPTIONS, losses_for
from mtl_jax.tasks.retrieval import retrieval_loss


def loss_name(task: TaskSpec) -> str:
    """The task's loss, its kind's default where none is named; refuses others than its kind's."""
    known = losses_for(task)
    name = task.loss or known[0]
    if name not in known:
        raise UserError(f"task {task.name!r}: unknown loss {name!r}. {nearest(name, known)}")
    if loss_options(task) and name not in WITH_OPTIONS:
        given = ", ".join(loss_options(task))
        raise UserError(f"task {task.name!r}: loss {name!r} takes no {given}; leave them out")
    return name


def loss_options(task: TaskSpec) -> dict[str, Any]:
    """The options of the loss that the task sets."""
    found = {"smooth": task.smooth, "gamma": task.gamma, "weights": task.class_weights}
    return {name: value for name, value in found.items() if value}


def loss_sums(tasks: tuple[TaskSpec, ...], outputs: Outputs, batch: Batch) -> tuple[Array, Array]:
    """(sums [T], counts [T]) of the per-example losses over each task's labelled rows.

    A penalty [S] of the trunk counts once for each labelled row of its shard: sums / counts is then
    the mean loss plus the penalties' mean over labelled rows, over any number of shards and slices,
    and a task without a labelled row has none. The trunk gives penalties in training only.
    """
    penalties = outputs.get(PENALTIES, {})
    sums, counts = [], []
    for t in tasks:
        mask = batch[f"mask/{t.name}"]
        if t.kind == "retrieval":
            per_row = retrieval_loss(outputs[t.name], batch, loss_name(t))
        else:
            loss = LOSSES[loss_name(t)]
            per_row = loss(outputs[t.name], _label(batch, t.name), mask, **loss_options(t))
        total = jnp.sum(jnp.where(mask > 0, per_row, 0.0), dtype=jnp.float32)
        if t.name in penalties:
            labelled = jnp.sum(mask, axis=tuple(range(1, mask.ndim)), dtype=jnp.float32)
            total += jnp.sum(jnp.where(labelled > 0, penalties[t.name] * labelled, 0.0))
        sums.append(total)
        counts.append(jnp.sum(mask, dtype=jnp.float32))
    return jnp.stack(sums), jnp.stack(counts)


def _label(batch: Batch, name: str) -> Array:
    """The label, 0 where it is missing: a NaN there would reach the gradient as 0 * NaN."""
    label, mask = batch[f"label/{name}"], batch[f"mask/{name}"]
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (label.ndim - mask.ndim)) > 0, label, 0.0)


def label_counts(tasks: tuple[TaskSpec, ...], batch: Batch) -> Array:
    """Labelled rows of each task [T], over every axis of its mask."""
    return jnp.stack([jnp.sum(batch[f"mask/{t.name}"], dtype=jnp.float32) for t in tasks])
