"""From a Config to the objects of a run: data, encoder, model, optimiser. Used by experiments."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mtl_jax import balance
from mtl_jax.adapt.cache import pooled_vectors, token_states
from mtl_jax.adapt.freeze import find_cut, split_params
from mtl_jax.adapt.hf_weights import load_encoder
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.adapt.progress import progress_bar
from mtl_jax.config import Config, to_dict
from mtl_jax.core.errors import UserError
from mtl_jax.core.placement import on_mesh
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.types import Array, HostArray, Params
from mtl_jax.data.assemble import Assembler, TextSource
from mtl_jax.data.config import DataConfig
from mtl_jax.data.history_features import Entries
from mtl_jax.data.labels import check_tasks, class_counts
from mtl_jax.data.packing import row_length
from mtl_jax.data.pipeline import TrainStream, rows_of
from mtl_jax.data.prepare import prepare
from mtl_jax.data.prepared import Prepared, open_prepared
from mtl_jax.nn.encoder import EncoderConfig, init_params
from mtl_jax.nn.model import Model
from mtl_jax.nn.ordinal import start_thresholds
from mtl_jax.nn.towers import LabelStats
from mtl_jax.nn.trunks import last_shared
from mtl_jax.tasks.classes import balanced
from mtl_jax.train import optimiser, state
from mtl_jax.train.config import BalanceConfig
from mtl_jax.train.evaluation import Evaluator
from mtl_jax.train.fingerprint import fingerprint
from mtl_jax.train.lanes import FirstOf, StepOf
from mtl_jax.train.loop import Run
from mtl_jax.train.mesh import (
    batch_devices,
    check_heads,
    device_bytes,
    make_mesh,
    pad_tables,
    state_sharding,
    told,
)
from mtl_jax.train.startup import Startup
from mtl_jax.train.state import TrainState
from mtl_jax.train.step import Step, make_step


def encoder_folder(name: str) -> str:
    """The Hugging Face folder of `encoder.folder`; "minilm" is the installed package's."""
    return str(minilm_folder()) if name == "minilm" else name


def data_config(config: Config, workdir: Path) -> DataConfig:
    """`config.data` with blanks filled: the encoder's tokenizer, a folder in workdir."""
    data = config.data
    tokenizer = data.tokenizer or (config.encoder.folder and encoder_folder(config.encoder.folder))
    return dataclasses.replace(
        data, tokenizer=tokenizer, prepared=data.prepared or str(workdir / "prepared")
    )


def prepare_data(config: Config, workdir: Path) -> Prepared:
    """Prepared data, made now if it is not there."""
    return open_prepared(prepare(data_config(config, workdir)))


@dataclass(frozen=True)
class Job:
    """What is made from a Config; parameters come from `create` or a checkpoint."""

    config: Config
    workdir: Path
    data: Prepared
    mesh: Mesh
    assembler: Assembler
    model: Model
    trainable_encoder: Params | None
    startup: Startup

    def evaluator(self, check: Any = lambda: None) -> Evaluator:
        """The evaluation loop, `train.eval_batch` rows at a time."""
        n = batch_devices(self.mesh)
        size = -(-self.config.train.eval_batch // n) * n
        return Evaluator(self.model, self.assembler, self.mesh, size, check)

    @cached_property
    def stream(self) -> TrainStream:
        """Training batches."""
        n = batch_devices(self.mesh)
        shards = self.config.batch.shards or n
        if shards % n:
            raise UserError(f"batch.shards={shards}: must be a multiple of {n} devices")
        dataclasses.replace(self.config.batch, shards=shards).rows_per_shard()
        index = rows_of(self.assembler, "train")
        c = self.config.train
        seed = c.seed if c.order_seed == -1 else c.order_seed
        return TrainStream(self.assembler, index, seed, shards)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        c = self.config.train
        return c.steps or c.epochs * self.stream.steps_per_epoch

    def run(self) -> Run:
        """What the training loop needs."""
        c = self.config
        steps = self.steps
        balancer, alpha = make_balancer(c, self.stream.steps_per_epoch)
        balancing = self._balance()
        shapes = jax.eval_shape(self._params)
        tx = optimiser.make(c.optim, shapes, steps)
        rate = optimiser.schedule(c.optim, steps)
        step = make_step(self.model, balancer, tx, rate, c.optim, balancing, alpha)
        step = on_mesh(self.mesh, step)
        create = self._creator(tx, balancer, balancing)
        meta = {
            "config": to_dict(c), "data": self.data.digest, "pipeline": fingerprint(self.stream)
        }  # fmt: skip
        return Run(
            self.model, self.stream, c.train, self.mesh, step, create, steps, self.workdir, meta,
            self.startup, self.model.compiler_options,
        )  # fmt: skip

    def lane(self) -> tuple[FirstOf, StepOf]:
        """(first state of a key; step of a learning rate [], task weights [T] and `go` []).

        Pure functions of arrays, for `mtl_jax.train.lanes` to map over.
        """
        c, balancing = self.config, self._balance()
        balancer, alpha = make_balancer(c, self.stream.steps_per_epoch)
        shapes = jax.eval_shape(self._params)

        def first(key: Array) -> TrainState:
            return self._first(
                key, optimiser.make(c.optim, shapes, self.steps), balancer, balancing
            )

        def step(rate: Any, weights: Array, go: Array) -> Step:
            optim = dataclasses.replace(c.optim, learning_rate=rate)
            tx = optimiser.make(optim, shapes, self.steps)
            own, scale = weighed(balancer, alpha, weights)
            schedule = optimiser.schedule(optim, self.steps)
            return make_step(self.model, own, tx, schedule, optim, balancing, scale, go)

        return first, step

    def _params(self, key: Array | None = None) -> dict[str, Params]:
        batch = self.stream.batch(0)
        one = {k: v if k.startswith("uniq/") else v[0] for k, v in batch.items()}
        key = jax.random.PRNGKey(self.config.train.seed) if key is None else key
        return self.model.init(key, one, self.trainable_encoder)

    def _first(
        self, key: Array, tx: Any, balancer: balance.Balancer, balancing: BalanceConfig
    ) -> TrainState:
        """The state of step 0; inside jit."""
        tables = pad_tables(self.mesh, self.model.init_tables(key, log_prior(self.data)))
        params, n_tasks = self._params(key), len(self.model.tasks)
        return state.create(
            params, tables, tx, balancer, n_tasks, key, balancing, self.model.reached_heads,
            self.config.optim.table_optimiser,
        )  # fmt: skip

    def _balance(self) -> BalanceConfig:
        """`config.balance`, with the trunk's word on which layer is the last shared one."""
        b = self.config.balance
        return dataclasses.replace(b, last_shared=b.last_shared or last_shared(self.config.model))

    def _creator(self, tx: Any, balancer: Any, balancing: BalanceConfig) -> Any:
        """The whole state in one jit with out-shardings."""
        key = jax.random.PRNGKey(self.config.train.seed)

        def make() -> TrainState:
            return self._first(key, tx, balancer, balancing)

        shapes = jax.eval_shape(make)
        shardings = state_sharding(self.mesh, shapes)
        if self.mesh.size > 1:
            logging.info("%s", told(self.mesh, device_bytes(shapes, shardings)))
        # Runs once: compiling it well would cost more than it gives.
        fast = {"xla_backend_optimization_level": 0}
        return jax.jit(make, out_shardings=shardings, compiler_options=fast)


def open_job(config: Config, workdir: Path, startup: Startup | None = None) -> Job:
    """Prepare the data if needed, load the encoder, fill the cache, and describe the model."""
    startup = startup or Startup()
    data = prepare_data(config, workdir)
    startup.lap("prepare")
    check_tasks(data, config.tasks)
    encoder, text, trainable = text_source(config, data)
    mesh = make_mesh(config.train.mesh)
    if encoder is not None:
        check_heads(mesh, encoder.heads)
        if encoder.attention == "flash" and mesh.size > 1:
            raise UserError("encoder.attention=flash runs on one device: use auto")
    startup.lap("encode")
    assembler = Assembler(data, config.tasks, config.batch, text)
    cut = None if encoder is None else find_cut(encoder, _train_layers(config)).layer
    assembler = dataclasses.replace(assembler, tasks=weighted_tasks(assembler))
    labels = label_stats(assembler)
    model = Model(
        config.model,
        data.schema,
        assembler.tasks,
        labels,
        encoder,
        config.encoder.pooling,
        cut or 0,
        next((labels[t.name].mean for t in config.tasks if t.name in labels), 0.0),
        unseen_statistics(data) if config.model.stats_dropout else None,
    )
    return Job(config, workdir, data, mesh, assembler, model, trainable, startup)


def _train_layers(config: Config) -> int | str:
    return "all" if config.encoder.train_layers == -1 else config.encoder.train_layers


def text_source(
    config: Config, data: Prepared
) -> tuple[EncoderConfig | None, TextSource, Params | None]:
    """(encoder if a part of it trains, where texts come from, its trainable parameters)."""
    choice = config.encoder
    if choice.centre and choice.train_layers:
        raise UserError("encoder.centre is for frozen vectors: it needs encoder.train_layers=0")
    if config.model.history_text and (not choice.folder or choice.train_layers != -1):
        raise UserError("model.history_text needs an encoder with encoder.train_layers=-1")
    if not choice.folder:
        return None, TextSource(), None
    encoder, params = load_encoder(encoder_folder(choice.folder))
    if choice.random:
        params = init_params(encoder, jax.random.PRNGKey(config.train.seed))
    encoder = dataclasses.replace(encoder, dtype=config.model.dtype, remat=choice.remat)
    tokens, offsets = data.items["tokens"], data.items["token_offsets"]
    types = data.items["token_types"] if data.schema.token_types else None
    cache = choice.cache or str(data.folder.parent / "cache")
    tokenizer = json.dumps(data.manifest["tokenizer"], sort_keys=True)
    cut = find_cut(encoder, _train_layers(config))
    with progress_bar("encode texts") as progress:
        if cut.policy == "none":
            frozen = dataclasses.replace(encoder, dtype="float32")
            vectors = pooled_vectors(
                cache, frozen, params, tokens, offsets, choice.pooling,
                types=types, tokenizer=tokenizer, progress=progress,
            )  # fmt: skip
            if choice.centre:
                vectors = centred(vectors, np.asarray(data.items["warm"]))
            return None, TextSource(vectors=vectors), None
        states = None
        if cut.layer is not None:
            states, offsets = token_states(
                cache, encoder, params, tokens, offsets, cut.layer,
                types=types, tokenizer=tokenizer, progress=progress,
            )  # fmt: skip
    encoder = dataclasses.replace(encoder, attention=choice.attention)
    history = choice.history_tokens if config.model.history_text else 0
    length = choice.row_tokens or row_length(np.diff(offsets))
    source = TextSource(None, tokens, offsets, states, length, history, types)
    return encoder, source, split_params(encoder, params, _train_layers(config))[1]


def centred(vectors: HostArray, warm: HostArray) -> HostArray:
    """Vectors [n, Dt] less the mean of the `warm` ones, over their spread [] in all columns.

    Row 0, no item, stays zero.
    """
    x = np.asarray(vectors, np.float32)
    if not warm.any():
        return x
    seen = x[warm]
    centre = seen.mean(0)
    out: HostArray = (x - centre) / max(float((seen - centre).std()), 1e-6)
    out[0] = 0.0
    return out


def label_stats(assembler: Assembler) -> dict[str, LabelStats]:
    """Where heads start: mean and spread of values, log-odds of 0/1 labels, training rows."""
    index = rows_of(assembler, "train")
    data, found = assembler.data, {}
    for t in assembler.tasks:
        if t.level != "event" or t.kind in ("multiclass", "retrieval"):
            continue
        columns = [np.asarray(data.events[f"label_{c}"][index], np.float64) for c in t.columns]
        known = [y[np.isfinite(y)] for y in columns]
        for name, y in zip(t.columns, known, strict=True):
            if not len(y):
                raise UserError(
                    f"task {t.name!r}: no training row has a label {name!r}; leave the "
                    + ("column out" if t.labels else "task out")
                )
        mean = float(known[0].mean())
        if t.kind == "multilabel":
            found[t.name] = LabelStats(each=tuple(log_odds(float(y.mean())) for y in known))
        elif t.kind == "ordinal":
            counts = class_counts(data, t, index)
            found[t.name] = LabelStats(each=start_thresholds(counts))
        elif t.probability:
            found[t.name] = LabelStats(log_odds(mean))
        elif t.kind == "similarity" and t.low is not None and t.high is not None:
            found[t.name] = LabelStats(log_odds((mean - t.low) / (t.high - t.low)))
        else:
            found[t.name] = LabelStats(mean, max(float(known[0].std()), 1e-3))
    return found


def log_odds(p: float) -> float:
    """log(p / (1 - p)) of a share, which is first cut to [1e-4, 1 - 1e-4]."""
    p = float(np.clip(p, 1e-4, 1 - 1e-4))
    return float(np.log(p / (1 - p)))


def weighted_tasks(assembler: Assembler) -> tuple[TaskSpec, ...]:
    """The tasks, those that are `balanced` with class weights from the training rows."""
    index = rows_of(assembler, "train")

    def resolved(t: TaskSpec) -> TaskSpec:
        if not t.balanced:
            return t
        weights = balanced(class_counts(assembler.data, t, index))
        return dataclasses.replace(t, class_weights=weights, balanced=False)

    return tuple(resolved(t) for t in assembler.tasks)


def unseen_statistics(data: Prepared) -> tuple[float, ...]:
    """Item and cross statistics of an item never seen; NaN where its id plays no part."""
    zero: HostArray = np.zeros(1, np.int64)
    context = {c.name: zero for c in data.schema.context}
    found = data.frozen_features(zero, zero, context, zero, Entries.none(1))
    values = data.standardised(found)[0]
    columns = data.schema.statistics
    order = [*data.schema.statistic_indices("item"), *data.schema.statistic_indices("cross")]
    own = [("item" in columns[i].name.split(".")[0].split("*")) for i in order]
    picked = (values[i] if mine else np.nan for i, mine in zip(order, own, strict=True))
    return tuple(float(v) for v in picked)


def log_prior(data: Prepared) -> HostArray:
    """Log of an item's training positives over the mean item's [n_items], the start of its bias.

    0, what an item never seen has, is then the bias of an item of average (not median) popularity.
    """
    counts = np.asarray(data.items["positives"], np.float64) + 1.0
    warm = np.asarray(data.items["warm"])
    prior = np.log(counts / (counts[warm].mean() if warm.any() else 1.0))
    return np.where(warm, prior, 0.0).astype(np.float32)


def make_balancer(
    config: Config, steps_per_epoch: int = 1
) -> tuple[balance.Balancer, tuple[float, ...]]:
    """(the configured balancer, alpha [T]: what losses are multiplied by before it sees them).

    The tasks' weights are alpha, or an option of those balancers that know what to do with them.
    """
    b = config.balance
    alpha = tuple(t.weight for t in config.tasks)
    options: dict[str, Any] = dict(b.options)
    known = balance.options(b.name)
    if len(options) < len(b.options):
        raise UserError(f"balance.options: one of {[k for k, _ in b.options]} is given twice")
    if "weights" in options:
        raise UserError("balance.options: weights are the tasks' own: set tasks.NAME.weight")
    if b.points and b.name != "scheduled":
        raise UserError(f"balance.points: {b.name!r} has no schedule; only 'scheduled' has")
    if "steps_per_epoch" in known:
        options.setdefault("steps_per_epoch", steps_per_epoch)
    if "weights" in known:
        options.setdefault("weights", alpha)
        alpha = (1.0,) * len(alpha)
    if b.name == "scheduled":
        names = [t.name for t in config.tasks]
        for task, _ in b.points:
            if task not in names:
                raise UserError(f"balance.points: there is no task {task!r} among {names}")
        options["points"] = tuple(dict(b.points).get(n, ()) for n in names)
    return balance.get(b.name, **options), alpha


def weighed(
    balancer: balance.Balancer, alpha: tuple[float, ...], weights: Array
) -> tuple[balance.Balancer, tuple[Any, ...]]:
    """What `make_balancer` gives, with task weights [T] that may be traced."""
    if any(f.name == "weights" for f in dataclasses.fields(balancer)):  # type: ignore[arg-type]
        changed: Any = balancer
        return dataclasses.replace(changed, weights=tuple(weights)), alpha
    return balancer, tuple(weights)
