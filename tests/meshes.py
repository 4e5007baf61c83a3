"""Run by zygote.py with eight faked devices: some steps on each of several meshes, one job.

All start from one state: the first mesh makes and saves it, the others restore it.
Writes <out>/meshes.json, and of each mesh <mesh>.hlo and <mesh>.npz, the first state by path as
"first/..." and that after the last step as "last/...".
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import path_of
from mtl_jax.data.batch import BatchConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig
from worlds import small_data, write_encoder

STEPS = 4
MESHES = {
    "fsdp": "data=4,fsdp=2",
    "one": 1,
    "tensor": "data=2,tensor=2,expert=2",
}


def config_of(folder: Path) -> Config:
    return Config(
        tasks=(TaskSpec("click", "binary", "click"), TaskSpec("stars", "regression", "rating")),
        encoder=EncoderChoice(str(folder / "encoder"), -1, row_tokens=24, cache=str(folder)),
        batch=BatchConfig(size=64, history=2, shards=8),
        model=ModelConfig(
            width=8,
            user_layers=0,
            user_heads=2,
            target_attention=False,
            trunk="mmoe",
            trunk_widths=(8,),
            experts=4,
            head_width=0,
        ),
        # Adam's first update moves an element by the whole rate even where its gradient is
        # rounding and nothing else; warming up leaves that one out.
        optim=OptimConfig(learning_rate=1e-2, warmup=1, schedule="constant"),
        train=TrainConfig(steps=STEPS),
    )


def flat(tree):
    import jax

    return {path_of(p): x for p, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def open_on(mesh, config, data, folder):
    """The run of the job on a mesh."""
    from mtl_jax import job as jobs

    jobs.prepare_data = lambda config, workdir: data
    train = dataclasses.replace(config.train, mesh=mesh)
    return jobs.open_job(dataclasses.replace(config, train=train), folder).run()


def steps_on(run, state, out, name):
    """Losses, bytes of each array and of each device's part of it; the rest into files."""
    import jax

    from mtl_jax.train.mesh import put_batch

    saved = {f"first/{k}": np.asarray(v) for k, v in flat(state).items()}
    losses, compiled = [], None
    for k in range(STEPS):
        placed = put_batch(run.mesh, run.stream.batch(k))
        if compiled is None:
            placement = jax.tree.map(lambda x: x.sharding, state)
            step = jax.jit(run.step, donate_argnums=0, out_shardings=(placement, None))
            compiled = step.lower(state, placed).compile()
            (out / f"{name}.hlo").write_text(compiled.as_text())
        state, metrics = compiled(state, placed)
        losses.append((metrics["loss_sum"] / metrics["count"]).tolist())
    arrays = flat(state)
    saved |= {f"last/{k}": np.asarray(v) for k, v in arrays.items()}
    np.savez(out / f"{name}.npz", **{k.replace("/", "__"): v for k, v in saved.items()})
    return {
        "losses": losses,
        "bytes": {k: v.nbytes for k, v in arrays.items()},
        "held": {k: [s.data.nbytes for s in v.addressable_shards] for k, v in arrays.items()},
        "ids": {k: v.size for k, v in run.stream.batch(0).items() if k.startswith("uniq/")},
        "texts": run.stream.batch(0)["text/ids"].shape,
    }


def main():
    from mtl_jax.train.checkpoint import Checkpoints
    from mtl_jax.train.loop import abstract

    out = Path(sys.argv[1])
    write_encoder(out / "encoder", vocab=22, layers=1)
    data, config, found = small_data(out), config_of(out), {}
    for name, mesh in MESHES.items():
        run = open_on(mesh, config, data, out)
        with Checkpoints(out / "run") as checkpoints:
            if checkpoints.latest() is None:
                state = run.create()
                checkpoints.save(0, state, {}, -1)
                checkpoints.wait()
            else:
                state = checkpoints.restore(0, abstract(run.create))
        found[name] = steps_on(run, state, out, name)
    (out / "meshes.json").write_text(json.dumps(found))
    return 0
