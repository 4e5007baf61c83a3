"""Run by zygote.py with eight faked devices: one device against eight, printed as JSON."""

import dataclasses
import json
import sys
from pathlib import Path

from benchmarks.collectives import collectives, sent
from mtl_jax.config import load
from runs import CONFIG

SEEN = ("weights", "balance/norm", "balance/cosine")
LEVELS = ("shared",)


def losses(config, workdir, devices, steps):
    import jax

    from mtl_jax.job import open_job
    from mtl_jax.train import fetch
    from mtl_jax.train.mesh import put_batch

    train = dataclasses.replace(config.train, mesh=devices)
    job = open_job(dataclasses.replace(config, train=train), workdir)
    run = job.run()
    state, compiled, found, fetched = run.create(), {}, [], fetch.COUNT["fetches"]
    bytes_of, seen = {}, []
    for k in range(steps):
        batch = run.stream.batch(k)
        placed = put_batch(run.mesh, batch)
        shape = str(sorted((name, v.shape) for name, v in batch.items()))
        if shape not in compiled:
            compiled[shape] = jax.jit(run.step, donate_argnums=0).lower(state, placed).compile()
        if not bytes_of:
            for x in placed.values():
                for shard in x.addressable_shards:
                    bytes_of[shard.device.id] = bytes_of.get(shard.device.id, 0) + shard.data.nbytes
            whole = sum(v.nbytes for v in batch.values())
        state, metrics = compiled[shape](state, placed)
        metrics = fetch.fetch(metrics)
        found.append((metrics["loss_sum"] / metrics["count"]).tolist())
        seen.append({k: metrics[k].tolist() for k in metrics if k in SEEN})
    spread = {len(x.sharding.device_set) for x in jax.tree.leaves(state)}
    return {
        "sent": sent(collectives(next(iter(compiled.values())).as_text())),
        "param_bytes": sum(x.nbytes for x in jax.tree.leaves(state.params)),
        "row_bytes": sum(batch[f"uniq/{k}"].size * v.shape[1] * 4 for k, v in state.tables.items()),
        "candidates": batch["cand"].size if "cand" in batch else 0,
        "width": config.model.width,
        "losses": found,
        "seen": seen,
        "batch_bytes": whole,
        "device_bytes": list(bytes_of.values()),
        "compiled": len(compiled),
        "planned": len(run.stream.plan.shapes),
        "fetches": fetch.COUNT["fetches"] - fetched,
        "state_devices": sorted(spread),
    }


def main():
    prepared, workdir = sys.argv[1:3]
    config = load(
        str(CONFIG),
        [
            f"data.prepared={prepared}",
            "batch.shards=8",
            "model.dropout=0.0",
            "model.id_dropout=0.0",
        ],
    )
    both = {n: losses(config, Path(workdir), n, 20) for n in (1, 8)}
    for level in LEVELS:
        balance = dataclasses.replace(config.balance, name="upgrad", level=level)
        balanced = dataclasses.replace(config, balance=balance)
        both[level] = {n: losses(balanced, Path(workdir), n, 4) for n in (1, 8)}
    Path(workdir, "devices.json").write_text(json.dumps(both))
    return 0
