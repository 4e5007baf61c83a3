"""What the pipeline benchmark reads: the generated shop with its texts as tokens.

Both workers open the same prepared folder; batch k has the same rows on both sides.
"""

import dataclasses
from pathlib import Path

import numpy as np

from experiments.configs.quickstart import TASKS, get_config
from mtl_jax.core.types import HostArray
from mtl_jax.data.assemble import Assembler, TextSource
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import WorldConfig
from mtl_jax.data.pipeline import TrainStream, rows_of
from mtl_jax.job import prepare_data

ROW = 128  # tokens of a packed row
BATCH = BatchConfig(size=512, history=50)
LABELLED = tuple(t for t in TASKS if t.kind != "retrieval")


def open_stream(folder: str, events: int) -> TrainStream:
    """Batches of 512 rows with histories of 50; prepares the data if it is not there."""
    config = get_config()
    data = dataclasses.replace(config.data, world=WorldConfig(events=events, seed=0))
    prepared = prepare_data(dataclasses.replace(config, data=data), Path(folder))
    text = TextSource(
        tokens=prepared.items["tokens"], offsets=prepared.items["token_offsets"], length=ROW
    )
    assembler = Assembler(prepared, LABELLED, BATCH, text)
    return TrainStream(assembler, rows_of(assembler, "train"), seed=0, shards=1)


def summary(items: HostArray, segments: HostArray, sums: dict[str, float]) -> dict[str, float]:
    """What both sides' batches must have in common: distinct items, tokens, and sums of columns."""
    distinct = np.unique(items)
    ids = {"distinct": len(distinct), "ids": float(distinct.astype(np.int64).sum())}
    return {**ids, "tokens": int((segments > 0).sum()), **sums}
