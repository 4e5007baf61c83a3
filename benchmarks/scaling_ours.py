"""The worker of the scaling benchmark: the step on faked devices, and on one, made larger.

`python -m benchmarks.scaling_ours FOLDER`, started by `benchmarks.scaling`, which says by XLA_FLAGS
how many devices there are. The step is the main job's on the generated shop: a BERT of two layers,
128 wide, that trains whole, towers, a mixture of four experts and four tasks.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.collectives import KINDS, collectives, sent
from benchmarks.peak import of_jax
from benchmarks.turns import serve
from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig, Shape
from mtl_jax.data.config import DataConfig, StatisticsConfig, WorldConfig
from mtl_jax.data.world_catalogue import TEST_FROM, VALID_FROM
from mtl_jax.job import Job, open_job
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.encoder import init_params
from mtl_jax.train.config import OptimConfig, TrainConfig
from mtl_jax.train.loop import Run, abstract
from mtl_jax.train.mesh import put_batch

LAYERS, WIDTH, SHARDS = 2, 128, 8
LABELS = (("click", "binary"), ("purchase", "binary"), ("rating", "regression"),
          ("log_dwell", "regression"))  # fmt: skip
# The partitioner is the same; what it gives is not run.
UNRUN: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
}


def config_of(mesh: int | str, shards: int, **sizes: int) -> Config:
    """The job; sizes: copies of the tasks, history, row_tokens."""
    tasks = [
        TaskSpec(f"{name}{n or ''}", kind, name)  # type: ignore[arg-type]
        for n in range(sizes.get("copies", 1))
        for name, kind in LABELS
    ]
    return Config(
        tasks=tuple(tasks),
        data=DataConfig(
            source="world",
            world=WorldConfig(events=2000, seed=0),
            prepared=str(Path(sys.argv[1]) / "prepared"),
            template="{title}. {description}",
            max_tokens=64,
            valid_from=VALID_FROM,
            test_from=TEST_FROM,
            statistics=StatisticsConfig(keys=("user", "item", "category")),
        ),
        encoder=EncoderChoice("minilm", -1, row_tokens=sizes.get("row_tokens", 64), random=True),
        batch=BatchConfig(size=64, history=sizes.get("history", 16), shards=shards),
        model=ModelConfig(trunk="mmoe", trunk_widths=(128, 64)),
        optim=OptimConfig(learning_rate=1e-4),
        train=TrainConfig(steps=1000, mesh=mesh),
    )


def job_of(config: Config, vocab: int = 1) -> Job:
    """The job with the small encoder; vocab: times MiniLM's."""
    job = open_job(config, Path(sys.argv[1]))
    assert job.model.encoder is not None
    encoder = dataclasses.replace(
        job.model.encoder, layers=LAYERS, width=WIDTH, heads=4, ffn=4 * WIDTH,
        vocab_size=vocab * job.model.encoder.vocab_size, has_pooler=False,
    )  # fmt: skip
    params = init_params(encoder, jax.random.PRNGKey(0))
    model = dataclasses.replace(job.model, encoder=encoder)
    return dataclasses.replace(job, model=model, trainable_encoder=params)


def talk(mesh: str) -> dict[str, Any]:
    """Collectives of the compiled step, the least that the mesh must send, bytes on a device."""
    run = job_of(config_of(mesh, SHARDS)).run()
    state, batch = abstract(run.create), run.stream.batch(0)
    lowered = jax.jit(run.step, donate_argnums=0).lower(state, put_batch(run.mesh, batch))
    began = time.perf_counter()
    found = collectives(lowered.compile(UNRUN).as_text() or "")
    seconds = time.perf_counter() - began
    kinds = {k: [c for c in found if c.kind == k] for k in KINDS}
    held = sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(state)
    )
    return {
        "kinds": {k: {"n": len(v), "bytes": sent(v)} for k, v in kinds.items() if v},
        "sent": sent(found),
        "least": least(run, state, batch),
        "state_bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)),
        "held_bytes": held,
        "compile_s": seconds,
    }


def least(run: Run, state: Any, batch: dict[str, Any]) -> float:
    """Bytes that a device must send.

    Each parameter gathered once over fsdp and its gradient summed once, by a reduce-scatter where
    it lies in parts; rows of tables fetched once and their gradients summed once; and Megatron's
    sums of activations, two a layer forward and two backward, and one of the vocabulary's rows. Of
    experts the sum of each task's mixture forward, and that of the gradient of what they read.
    """
    n = run.mesh.shape
    data, fsdp, tensor = n["data"], n["fsdp"], n["tensor"]
    total = 0.0
    for x in jax.tree.leaves(state.params):
        axes = [a for a in x.sharding.spec if a]
        used = x.size * 4 / math.prod(n[a] for a in axes if a != "fsdp")
        if "fsdp" in axes:
            total += 2 * used * (fsdp - 1) / fsdp + 2 * used / fsdp * (data - 1) / data
        else:
            total += 2 * used * (data * fsdp - 1) / (data * fsdp)
    for name, table in state.tables.items():
        rows = 4 * batch[f"uniq/{name}"].size * table.shape[1]
        total += 2 * rows * (fsdp - 1) / fsdp + 2 * rows * (data * fsdp - 1) / (data * fsdp)
    if tensor > 1:
        states = 4 * math.prod(batch["text/ids"].shape) * WIDTH / (data * fsdp)
        total += (1 + 4 * LAYERS) * 2 * states * (tensor - 1) / tensor
    if n["expert"] > 1:
        rows, tasks = batch["user"].size / (data * fsdp), len(run.model.tasks)
        _, wide, _ = state.params["heads"]["trunk"]["experts"]["layer_0"]["kernel"].shape
        mixed = run.model.config.trunk_widths[-1]
        total += 2 * 4 * rows * (tasks * mixed + wide) * (n["expert"] - 1) / n["expert"]
    return total


_ready: dict[str, tuple[Any, list[Any], Any]] = {}  # compiled step, [state], batch


def grow(what: str) -> dict[str, float]:
    """Compile the step with one thing doubled ("" is the base): its cost by XLA's own count."""
    sizes = {"T": {"copies": 2}, "H": {"history": 32}, "L": {"row_tokens": 128}}.get(what, {})
    shape = base_shape()
    if what == "U":
        shape = dataclasses.replace(shape, table=2 * shape.table, packed=2 * shape.packed)
    run = job_of(config_of(1, 1, **sizes), 2 if what == "V" else 1).run()
    batch = put_batch(run.mesh, batch_of(run, shape))
    state = run.create()
    if what == "tables":
        double = lambda x: jnp.pad(x, ((0, x.shape[0]), (0, 0)))  # noqa: E731
        tables, moments = jax.tree.map(double, (state.tables, state.table_opt))
        state = dataclasses.replace(state, tables=tables, table_opt=moments)
    began = time.perf_counter()
    lowered = jax.jit(run.step, donate_argnums=0).lower(state, batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    _ready[what] = (compiled, [state], batch)
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return {
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
        "temporary": float(memory.temp_size_in_bytes),
        "trace_s": traced - began,
        "compile_s": done - traced,
    }


@cache
def base_shape() -> Shape:
    """Of the base's common batch, which the others keep but for what they double."""
    return job_of(config_of(1, 1)).stream.plan.shapes[0]


def batch_of(run: Run, shape: Shape) -> dict[str, Any]:
    """Batch 0 in this shape."""
    s = run.stream
    rows = s.assembler.event_rows(s.rows(0))
    return s.assembler.batch(rows, s.candidates(0), shape, s.parts)


def steps(what: str, steps: int) -> float:
    """Seconds of so many steps."""
    compiled, state, batch = _ready[what]
    began = time.perf_counter()
    for _ in range(steps):
        state[0], metrics = compiled(state[0], batch)
    jax.block_until_ready(metrics)
    return time.perf_counter() - began


if __name__ == "__main__":
    handlers: dict[str, Callable[..., Any]] = {
        "talk": talk, "grow": grow, "run": steps,
        "peak": of_jax,
    }  # fmt: skip
    serve(handlers)
