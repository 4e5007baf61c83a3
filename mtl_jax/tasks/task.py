"""A task's loss over a batch: masked sums and counts, a vector over tasks, never summed here."""

import jax.numpy as jnp

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, Batch
from mtl_jax.nn.towers import Outputs
from mtl_jax.tasks.losses import DEFAULT_LOSS, LOSSES, RETRIEVAL_LOSSES
from mtl_jax.tasks.retrieval import retrieval_loss


def loss_name(task: TaskSpec) -> str:
    """The task's loss, its kind's default where none is named; refuses unknown names."""
    name = task.loss or DEFAULT_LOSS[task.kind]
    known = RETRIEVAL_LOSSES if task.kind == "retrieval" else LOSSES
    if name not in known:
        raise UserError(f"task {task.name!r}: unknown loss {name!r}. {nearest(name, known)}")
    return name


def loss_sums(tasks: tuple[TaskSpec, ...], outputs: Outputs, batch: Batch) -> tuple[Array, Array]:
    """(sums [T], counts [T]) of the per-example losses over each task's labelled rows."""
    sums, counts = [], []
    for t in tasks:
        mask = batch[f"mask/{t.name}"]
        if t.kind == "retrieval":
            per_row = retrieval_loss(outputs[t.name], batch, loss_name(t))
        else:
            per_row = LOSSES[loss_name(t)](outputs[t.name], _label(batch, t.name), mask)
        sums.append(jnp.sum(jnp.where(mask > 0, per_row, 0.0), dtype=jnp.float32))
        counts.append(jnp.sum(mask, dtype=jnp.float32))
    return jnp.stack(sums), jnp.stack(counts)


def _label(batch: Batch, name: str) -> Array:
    """The label, 0 where it is missing: a NaN there would reach the gradient as 0 * NaN."""
    label, mask = batch[f"label/{name}"], batch[f"mask/{name}"]
    return jnp.where(mask.reshape(*mask.shape, *(1,) * (label.ndim - mask.ndim)) > 0, label, 0.0)


def label_counts(tasks: tuple[TaskSpec, ...], batch: Batch) -> Array:
    """Labelled rows of each task [T], over every axis of its mask."""
    return jnp.stack([jnp.sum(batch[f"mask/{t.name}"], dtype=jnp.float32) for t in tasks])
