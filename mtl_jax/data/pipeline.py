"""Streams of batches: batch k is a pure function of (prepared data, seed, k), built whole."""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import grain
import numpy as np

from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.assemble import Assembler
from mtl_jax.data.batch import Rows, Shape
from mtl_jax.data.plan import Plan, make_plan

PARTS = {"train": 0, "valid": 1, "test": 2}
SAMPLED = 16  # batches looked at to plan shapes
LONG = 4096  # packed tokens of a slice from which a step takes longer than it is worth to compile


def rows_of(assembler: Assembler, part: str) -> HostArray:
    """Indices of the events of a part that have at least one event label, in time order."""
    data = assembler.data
    chosen = np.asarray(data.events["split"]) == PARTS[part]
    labelled = np.zeros(len(chosen), bool)
    for name in {f"label_{column}" for t in assembler.tasks for column in t.columns}:
        if name in data.events:
            labelled |= np.isfinite(np.asarray(data.events[name]))
    index = np.flatnonzero(chosen & labelled)
    if not len(index):
        names = ", ".join(t.name for t in assembler.tasks)
        raise UserError(f"{data.folder}: part {part!r} has no row with a label of {names}")
    return index


@dataclass(frozen=True)
class TrainStream:
    """Shuffled training batches; epoch e is one permutation drawn from (seed, e)."""

    assembler: Assembler
    index: HostArray
    seed: int
    shards: int
    _orders: dict[int, HostArray] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[int, int]:
        """(accumulation slices, data shards)."""
        return self.assembler.config.accumulate, self.shards

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; the rest of a pass is left out."""
        steps = len(self.index) // self.assembler.config.size
        if not steps:
            raise UserError(
                f"batch.size={self.assembler.config.size} exceeds the {len(self.index)} training "
                "rows: use a smaller batch or more data"
            )
        return steps

    def rows(self, step: int) -> HostArray:
        """Event indices of step's batch."""
        epoch, at = divmod(step, self.steps_per_epoch)
        order = self._orders.get(epoch)
        if order is None:  # threads may both draw it: they draw the same
            order = np.random.default_rng([self.seed, epoch]).permutation(self.index)
            self._orders.clear()
            self._orders[epoch] = order
        size = self.assembler.config.size
        return order[at * size : (at + 1) * size]

    def candidates(self, step: int) -> list[HostArray]:
        """Candidates of retrieval per (slice, shard); empty where no task needs them."""
        config, data = self.assembler.config, self.assembler.data
        parts = self.parts[0] * self.parts[1]
        none: HostArray = np.zeros(0, np.int32)
        if not any(t.kind == "retrieval" for t in self.assembler.tasks) or not config.negatives:
            return [none] * parts
        warm = np.flatnonzero(data.items["warm"]).astype(np.int32)
        if config.negatives < 0:
            each = -(-len(warm) // self.parts[1])
            spread = np.zeros(each * self.parts[1], np.int32)
            spread[: len(warm)] = warm
            return list(spread.reshape(self.parts[1], each)) * self.parts[0]
        rng = np.random.default_rng([self.seed, step, 1])
        drawn = rng.choice(warm, config.negatives * self.parts[0])
        return list(drawn.reshape(parts, -1))

    def batch(self, step: int) -> dict[str, HostArray]:
        """Batch of `step`, in the smallest planned shape that holds it."""
        rows, candidates = self._raw(step)
        asked = self.assembler.asked(rows, candidates, self.parts)
        shape = self.plan.choose(asked.shape)
        return self.assembler.batch(rows, candidates, shape, self.parts, asked=asked)

    @cached_property
    def plan(self) -> Plan:
        """Shapes seen in a sample of the first epoch, and the bound."""
        sample = self._sample(SAMPLED)
        packed = max(s.packed for s in sample)
        long = packed * self.assembler.text.length >= LONG
        if long:
            sample = self._sample(4 * SAMPLED)
        return make_plan(sample, self._bound(packed), self.shards, long)

    def _sample(self, batches: int) -> list[Shape]:
        steps = np.linspace(0, self.steps_per_epoch - 1, min(batches, self.steps_per_epoch))
        return [
            self.assembler.shape_of(*self._raw(s), self.parts)
            for s in np.unique(steps.astype(np.int64)).tolist()
        ]

    def _raw(self, step: int) -> tuple[Rows, list[HostArray]]:
        return self.assembler.event_rows(self.rows(step)), self.candidates(step)

    def _bound(self, packed: int) -> Shape:
        config, schema = self.assembler.config, self.assembler.data.schema
        parts = self.parts[0] * self.parts[1]
        extra = max((len(c) for c in self.candidates(0)), default=0)
        each = config.history + 1 + schema.other
        table = min(config.size // parts * each + extra + 1, schema.n_items)
        return Shape(
            table,
            min(config.size, schema.user_rows),
            min(table * parts, schema.n_items),
            table if packed else 0,  # no text is longer than a row
        )


def prefetched(stream: TrainStream, start: int, stop: int) -> Iterator[dict[str, HostArray]]:
    """Batches start..stop-1, built ahead by `workers` threads, two for each in stock.

    Grain's own iterator wakes its threads before it hands out what is ready, which costs a loop of
    short steps three times as much waiting.
    """
    dataset = grain.MapDataset.range(start, stop).map(lambda k: stream.batch(int(k)))
    workers = stream.assembler.config.workers
    if not workers:
        yield from dataset
        return
    pool = ThreadPoolExecutor(workers, "batches")
    try:
        coming = (pool.submit(dataset.__getitem__, k) for k in range(stop - start))
        stock = deque(itertools.islice(coming, 2 * workers))
        while stock:
            batch = stock.popleft().result()
            stock.extend(itertools.islice(coming, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
