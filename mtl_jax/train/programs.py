"""The training step, compiled: for the commonest batches while the state is made and data loads."""

import atexit
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from mtl_jax.core.memory import give_back_large
from mtl_jax.core.pieces import give_back_pieces
from mtl_jax.core.types import HostArray
from mtl_jax.train.mesh import batch_sharding, replicated
from mtl_jax.train.preemption import Preemption
from mtl_jax.train.state import TrainState
from mtl_jax.train.step import Step

HostBatch = Mapping[str, HostArray]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Programs:
    """One compiled step per shapes of a batch; state: its shapes, dtypes and shardings.

    options: what a step for such a batch is compiled with, see `Model.compiler_options`.

    The state stays as it is placed; the metrics are whole on every device, so that each process
    can read them.
    """

    step: Step
    mesh: Mesh
    state: TrainState
    options: Callable[[HostBatch], Any] = lambda batch: None
    seconds: dict[Shapes, float] = field(default_factory=dict)  # that compiling took
    _found: dict[Shapes, "Future[Any]"] = field(default_factory=dict)

    def ahead(self, batch: HostBatch) -> "Future[Any]":
        """Compile for batches like this one in a thread, once."""
        shapes: Shapes = tuple(sorted((k, v.shape) for k, v in batch.items()))
        if shapes in self._found:
            return self._found[shapes]
        logging.info("compiling for %d distinct items a shard", batch["items/id"].shape[-1])
        place = batch_sharding(self.mesh, batch)
        like = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            jax.eval_shape(lambda b: b, dict(batch)), place,
        )  # fmt: skip
        future: Future[Any] = Future()
        self._found[shapes] = future

        def work() -> None:
            start = time.perf_counter()
            try:
                found = self._compile(like)
            except BaseException as error:
                future.set_exception(error)
                return
            self.seconds[shapes] = time.perf_counter() - start
            future.set_result(found)

        thread = threading.Thread(target=work, daemon=True)
        atexit.register(thread.join)  # the interpreter must not be taken down under the compiler
        thread.start()
        return future

    def of(self, batch: HostBatch, preemption: Preemption) -> Callable[..., Any]:
        """The step for this batch; a signal is answered while it is compiled."""
        future = self.ahead(batch)
        return future.result() if future.done() else preemption.wait_for(future.result)

    def _compile(self, like: dict[str, Any]) -> Any:
        out = (jax.tree.map(lambda x: x.sharding, self.state), replicated(self.mesh))
        step = jax.jit(self.step, donate_argnums=0, out_shardings=out)
        compiled = step.lower(self.state, like).compile(self.options(like))
        needs = compiled.memory_analysis()
        if needs is not None and jax.default_backend() == "cpu":
            give_back_pieces()
            give_back_large(needs.temp_size_in_bytes)
        return compiled
