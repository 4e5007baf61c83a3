"""Retrieval over a batch: every positive row's item against the candidates of all shards."""

from typing import Any

import jax.numpy as jnp

from mtl_jax.core.names import choose
from mtl_jax.core.placement import whole
from mtl_jax.core.types import Array, Batch
from mtl_jax.tasks.losses import RETRIEVAL_LOSSES


def retrieval_loss(output: dict[str, Any], batch: Batch, loss: str) -> Array:
    """Loss per row [S, B].

    output: query [S, B, D], key [S, U, D], bias [S, U].  batch: item [S, B]; cand [S, K] item table
    indices of the candidates (0 = none); items/id, items/log_q [S, U].  Candidates of all shards
    stand against every row, so the loss does not depend on how rows are spread over devices.
    """
    query, bias = output["query"], output["bias"]
    rows = query.reshape(-1, query.shape[-1])  # [S B, D]
    target, cand = batch["item"], batch["cand"]

    def at(table: Array, index: Array) -> Array:
        picked = jnp.take_along_axis(
            table, index.reshape(*index.shape, *(1,) * (table.ndim - 2)), axis=1
        )
        return picked.reshape(-1, *table.shape[2:])

    own = jnp.sum(rows * at(output["key"], target), -1) + at(bias, target)
    others = rows @ whole(at(output["key"], cand)).T + whole(at(bias, cand))[None, :]
    ids, cand_ids = at(batch["items/id"], target), whole(at(batch["items/id"], cand))
    keep = (cand_ids[None, :] > 0) & (cand_ids[None, :] != ids[:, None])
    log_q = batch["items/log_q"]
    per_row = choose(RETRIEVAL_LOSSES, loss, "retrieval loss")(
        own, others, at(log_q, target), whole(at(log_q, cand)), keep.astype(own.dtype)
    )
    return per_row.reshape(target.shape)
