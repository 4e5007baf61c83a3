"""Several processes that train together, each with its own devices of one mesh.

Every process runs the same program on the same batches and gives the mesh the shards of its own
devices; the first one writes what is written once. Where one ends, the others cannot go on: they
end too, and are started again together (experiments/supervise.py).
"""

import jax
from jax.experimental import multihost_utils

LOST = ("Gloo", "gloo", "coordination", "heartbeat", "Connection", "UNAVAILABLE", "Barrier")
HEARTBEAT = 20  # seconds until a process that says nothing counts as lost


def join(coordinator: str, processes: int, process: int) -> None:
    """Join the others before anything else is done with jax; waits until all are there.

    coordinator: host:port that process 0 listens on.  process: the number of this one.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT)
    jax.devices()  # now, while all are here: each waits until the others have told theirs


def joined() -> bool:
    """Whether this process is one of several."""
    return bool(jax.distributed.is_initialized())


def leave() -> None:
    """Wait for the others to come to their end, which a process alone need not."""
    if joined():
        jax.distributed.shutdown()


def first() -> bool:
    """Whether this process writes what is written once: journal, metrics, checkpoints' folders."""
    return not joined() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if joined():
        multihost_utils.sync_global_devices(name)


def lost(error: BaseException) -> bool:
    """Whether an error means that another process has ended."""
    return joined() and any(word in str(error) for word in LOST)


def asked_to_stop(step: int) -> bool:
    """Whether some process was sent SIGTERM, answered alike by all; all ask before every step."""
    return bool(multihost_utils.reached_preemption_sync_point(step))
