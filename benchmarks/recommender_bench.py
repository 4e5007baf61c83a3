"""Opens one world in all workers of the recommender benchmarks, and refuses models that differ."""

from typing import Any

import numpy as np

from benchmarks.contest import Contest
from benchmarks.turns import Unavailable


def opened(c: Contest, folder: str, texts: str, batch: int, train_layers: int) -> dict[str, Any]:
    """What our worker says of the world; a torch that cannot open it is left out from here on.

    Raises AssertionError where a torch has other losses, to 1e-4, on the same weights and batch.
    """
    c.say(f"opening {texts}, batch {batch}")
    words = {"texts": texts, "batch": batch, "history": 50, "train_layers": train_layers}
    told: dict[str, Any] = c.ours.call("open", folder=folder, data=c.options.data, **words)
    for worker in list(c.theirs):
        try:
            found = worker.call("open", dump=told["dump"])
        except Unavailable as error:
            c.missing[worker.name] = str(error)
            c.theirs.remove(worker)
            continue
        for way, losses in found.items():
            if not np.allclose(told["losses"], losses, rtol=1e-4, atol=0):
                raise AssertionError(f"{worker.name}, {way}: {losses}, ours {told['losses']}")
    return told
