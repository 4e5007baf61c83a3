"""The worker that runs the project's own training step on MovieLens: `python -m ...`.

As in training: the job of a configuration, its stream of batches built ahead, put on the mesh, its
compiled step, metrics read one step late.
"""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.kernels import of_step
from benchmarks.machine import versions
from benchmarks.peak import of_jax
from benchmarks.recommender_data import BATCHES, ROW_KEYS, copies, flat, save
from benchmarks.turns import serve
from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.config import Config
from mtl_jax.core.memory import give_back_large
from mtl_jax.core.pieces import give_back_pieces
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import HostArray
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.pipeline import TrainStream, prefetched
from mtl_jax.job import Job, open_job
from mtl_jax.nn.config import ModelConfig
from mtl_jax.tasks.task import loss_sums
from mtl_jax.train.config import OptimConfig, TrainConfig
from mtl_jax.train.fetch import fetch
from mtl_jax.train.mesh import put_batch, replicated

TEXTS = {"titles": "{title}. {genres}", "plots": "{title}. {genres}. {plot}"}


def config_of(
    data: str, texts: str, batch: int, history: int, train_layers: int, dtype: str = "float32"
) -> Config:
    """Like and interest over history, text, ids and attributes.

    No statistics, no ids hidden, no transformer over the history, no clipping: a model that is
    written a second time in torch without tiring the reader. Dropout as usual.
    """
    return Config(
        tasks=(
            TaskSpec("like", "binary", "like"),
            TaskSpec("interest", "multiclass", "interest", "", 0.1, 19, level="user"),
        ),
        data=DataConfig(
            source="ml1m_collm",
            folder=data,
            template=TEXTS[texts],
            max_tokens=128,
            split="given",
            statistics=StatisticsConfig(keys=(), history=False),
        ),
        encoder=EncoderChoice("minilm", train_layers=train_layers),
        batch=BatchConfig(size=batch, history=history),
        model=ModelConfig(
            width=64, id_dropout=0.0, stats_dropout=False, user_layers=0, dtype=dtype
        ),
        optim=OptimConfig(warmup=0, schedule="constant", clip=0.0),
        train=TrainConfig(eval_part="", mesh=1),
    )


@dataclass(frozen=True)
class Again:
    """The first `BATCHES` batches of a stream, over and over, each built anew."""

    stream: TrainStream

    @property
    def assembler(self) -> Any:
        """Of the stream."""
        return self.stream.assembler

    def batch(self, k: int) -> dict[str, HostArray]:
        """Batch k modulo `BATCHES`."""
        return self.stream.batch(k % BATCHES)


@dataclass
class Open:
    """A job and its state. compiled: a step for every shape of batches."""

    job: Job
    step: Any
    state: Any
    again: Any
    compiled: dict[Any, Any] = field(default_factory=dict)
    count: int = 0


_open: list[Open] = []


def open_world(
    folder: str, data: str, texts: str, batch: int, history: int, train_layers: int
) -> dict[str, Any]:
    """Makes job and state and writes what torch needs into `folder`/dump.

    Returns: losses [T] of the first batch without dropout; texts, distinct, copies a batch; tokens
    of a batch's distinct texts.
    """
    _open.clear()
    jax.clear_caches()
    half = train_layers and jax.default_backend() == "gpu"
    dtype = "bfloat16" if half else "float32"
    config = config_of(data, texts, batch, history, train_layers, dtype)
    job = open_job(config, Path(folder) / texts)
    run = job.run()
    o = Open(job, run.step, run.create(), Again(job.stream))
    _open.append(o)
    batches = [plain(job, job.stream.batch(k)) for k in range(BATCHES)]
    stacked = {k: np.stack([b[k] for b in batches]) for k in batches[0]}
    dump(o, stacked, Path(folder) / "dump")
    tokens = np.diff(np.asarray(job.data.items["token_offsets"]))
    each = [tokens[np.unique(np.append(b["hist"], b["item"]))].sum() for b in batches]
    return {
        "losses": losses(o),
        "dump": str(Path(folder) / "dump"),
        "tokens": float(np.mean(each)),
        **copies(stacked),
    }


def plain(job: Job, batch: dict[str, HostArray]) -> dict[str, HostArray]:
    """The batch's rows by ids of users and items, as a torch user would have them."""
    part = {k: v if k.startswith("uniq/") else v[0, 0] for k, v in batch.items()}
    ids, users = part["items/id"], batch["uniq/user"].reshape(-1)
    found = {
        "user": users[part["user"]],
        "item": ids[part["item"]],
        "hist": ids[part["hist"]],
        **{k: part[k] for k in ROW_KEYS},
    }
    for t in job.model.tasks:
        found |= {k: part[k] for k in (f"label/{t.name}", f"mask/{t.name}")}
    return found


def dump(o: Open, batches: dict[str, HostArray], folder: Path) -> None:
    """Writes the folder of `recommender_data`."""
    job, items = o.job, o.job.data.items
    columns = [c.name for c in job.data.schema.item_categorical]
    names = ["warm", "dense", "tags", *(f"cat_{c}" for c in columns)]
    chosen = {k: np.asarray(items[k]) for k in names}
    chosen |= {"tokens": items["tokens"], "offsets": items["token_offsets"]}
    text = job.assembler.text
    trained = {k: v for k, v in o.state.params.items() if k != "encoder"}
    save(
        folder,
        _meta(job, columns),
        params=flat(trained),
        tables=dict(o.state.tables),
        items=chosen,
        users={"warm": np.asarray(job.data.users["warm"])},
        batches=batches,
        states=None if text.states is None else np.asarray(text.states).view(np.uint16),
        vectors=None if text.vectors is None else np.asarray(text.vectors),
    )


def _meta(job: Job, columns: list[str]) -> dict[str, Any]:
    m, c, optim = job.model, job.config.model, job.config.optim
    return {
        "columns": columns,
        "category": job.data.schema.category,
        "width": c.width,
        "heads": c.user_heads,
        "dropout": c.dropout,
        "trunk_layers": len(c.trunk_widths),
        "mu": m.mu,
        "like_offset": m.labels["like"].mean,
        "weights": {t.name: t.weight for t in m.tasks},
        "train_layers": job.config.encoder.train_layers,
        "hf": str(minilm_folder()),
        "rate": optim.learning_rate,
        "encoder_factor": optim.rates[0][1],
        "decay": optim.decay,
    }


def losses(o: Open) -> list[float]:
    """Mean loss of each task [T] on batch 0 in float32, nothing dropped."""
    model = o.job.model
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="float32"))
    if model.encoder is not None:
        exact = dataclasses.replace(model.encoder, dtype="float32")
        model = dataclasses.replace(model, encoder=exact)

    def f(state: Any, batch: Any) -> Any:
        part = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
        rows = model.gather(state.tables, part)
        _, outputs = model.forward(state.params, rows, part, state.key, train=False)
        sums, counts = loss_sums(model.tasks, outputs, part)
        return sums / counts

    batch = put_batch(o.job.mesh, o.job.stream.batch(0))
    with jax.default_matmul_precision("float32"):
        return [float(x) for x in jax.jit(f)(o.state, batch)]


def prepare(name: str) -> dict[str, Any]:
    """Compiles the step for the shapes that the batches have; seconds of one."""
    (o,) = _open
    began = time.perf_counter()
    each = {shapes(b): b for b in map(o.again.batch, range(BATCHES))}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda b: program(o, b), each.values()))
    run(name, BATCHES if o.job.model.encoder is None else 2)
    took = time.perf_counter() - began
    once = run(name, 1)
    return {"seconds": once, "tried": [], "first_steps_s": took, "programs": len(o.compiled)}


def shapes(batch: dict[str, HostArray]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What a program is compiled for."""
    return tuple(sorted((k, v.shape) for k, v in batch.items()))


def program(o: Open, batch: dict[str, HostArray]) -> Any:
    """The step for batches of this one's shapes, compiled once, as in training."""
    key = shapes(batch)
    if key not in o.compiled:
        out = (jax.tree.map(lambda x: x.sharding, o.state), replicated(o.job.mesh))
        made = jax.jit(o.step, donate_argnums=0, out_shardings=out)
        options = o.job.model.compiler_options(batch)
        found = made.lower(o.state, put_batch(o.job.mesh, batch)).compile(options)
        needs = found.memory_analysis()
        if needs is not None and jax.default_backend() == "cpu":
            give_back_pieces()
            give_back_large(needs.temp_size_in_bytes)
        o.compiled[key] = found
    return o.compiled[key]


def run(name: str, steps: int) -> float:
    """Seconds of so many steps, from the building of the first batch on."""
    (o,) = _open
    began = time.perf_counter()
    state, pending = o.state, None
    for batch in prefetched(o.again, o.count, o.count + steps):
        state, metrics = program(o, batch)(state, put_batch(o.job.mesh, batch))
        if pending is not None:
            fetch(pending)
        pending = metrics
    read: Any = fetch(pending)
    jax.block_until_ready(state)
    took = time.perf_counter() - began
    if not read["finite"]:
        raise FloatingPointError("the loss is not finite")
    o.state, o.count = state, o.count + steps
    return took


def host(steps: int = BATCHES) -> float:
    """Seconds that building one batch takes on the host, alone."""
    (o,) = _open
    began = time.perf_counter()
    for k in range(steps):
        o.again.batch(k)
    return (time.perf_counter() - began) / steps


def about() -> dict[str, str]:
    """Versions here."""
    return versions(("jax", "jaxlib", "optax", "flax"))


if __name__ == "__main__":
    serve(
        {
            "open": open_world,
            "prepare": prepare,
            "run": run,
            "host": host,
            "kernels": lambda: of_step(lambda: run("step", 1)),
            "peak": of_jax,
            "about": about,
        }
    )
