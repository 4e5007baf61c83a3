"""The recommender and the data of the balancing benchmark, in numpy: one source for both sides.

User and item tables of V / 2 rows, a history of 20 items (mean), the item, the user -> 192 -> a
shared bottom of 512 and 256 -> T heads of 64 and 1 with binary cross entropy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

HostArray = np.ndarray[Any, np.dtype[Any]]  # the peers' process may have neither jax nor mtl_jax
WIDTH, BOTTOM, HEAD = 64, (512, 256), 64
BATCH, HISTORY, BATCHES = 1024, 20, 4
TABLES = ("user", "item")


@dataclass(frozen=True)
class World:
    """tasks: T; rows: V, of both tables together; batch: B."""

    tasks: int
    rows: int
    batch: int = BATCH

    @property
    def table_rows(self) -> int:
        """Rows of each table."""
        return self.rows // 2


def layers(tasks: int) -> dict[str, tuple[int, int]]:
    """path -> (inputs, outputs) of every dense layer."""
    found = {"bottom/0": (3 * WIDTH, BOTTOM[0]), "bottom/1": BOTTOM}
    for t in range(tasks):
        found[f"heads/head_t{t}/0"] = (BOTTOM[1], HEAD)
        found[f"heads/head_t{t}/1"] = (HEAD, 1)
    return found


def weights(world: World, seed: int = 0) -> dict[str, HostArray]:
    """ "<layer>/kernel" [in, out] and "<layer>/bias" [out]; He's normal, as float32."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, (n, m) in layers(world.tasks).items():
        found[f"{name}/kernel"] = rng.standard_normal((n, m), np.float32) * np.float32(
            np.sqrt(2 / n)
        )
        found[f"{name}/bias"] = np.zeros(m, np.float32)
    return found


def tables(world: World, seed: int = 1) -> dict[str, HostArray]:
    """user and item [V / 2, 64]."""
    rng = np.random.default_rng(seed)
    shape = (world.table_rows, WIDTH)
    return {name: rng.standard_normal(shape, np.float32) for name in TABLES}


def batches(world: World, seed: int = 2) -> list[dict[str, HostArray]]:
    """user, item [B], history [B, 20] as int32, label [T, B]; items are log-uniform (Zipf)."""
    rng = np.random.default_rng(seed)
    n, b = world.table_rows, world.batch

    def zipf(*shape: int) -> HostArray:
        return np.minimum(np.exp(rng.uniform(0, np.log(n), shape)), n - 1).astype(np.int32)

    share = np.linspace(0.1, 0.6, world.tasks)[:, None]
    return [
        {
            "user": rng.integers(0, n, b, np.int32),
            "item": zipf(b),
            "history": zipf(b, HISTORY),
            "label": (rng.random((world.tasks, b)) < share).astype(np.float32),
        }
        for _ in range(BATCHES)
    ]


def distinct(batch: dict[str, HostArray]) -> dict[str, HostArray]:
    """Distinct rows of each table, and the ids as indices into them."""
    b = len(batch["user"])
    users, user = np.unique(batch["user"], return_inverse=True)
    both = np.concatenate([batch["item"], batch["history"].reshape(-1)])
    items, index = np.unique(both, return_inverse=True)
    index = index.astype(np.int32)
    return {
        "uniq/user": users,
        "uniq/item": items,
        "user": user.astype(np.int32),
        "item": index[:b],
        "history": index[b:].reshape(b, HISTORY),
        "label": batch["label"],
    }
