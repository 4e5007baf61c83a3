"""What the pretrained encoder knows: cold items of the generated shop, whose words are new.

    python -m experiments.cold_text --set=data.world.events=200000 --workdir=runs/cold

Trains the same model on three kinds of item texts: MiniLM vectors, vectors of the same encoder with
random weights, and TF-IDF reduced to as many dimensions (fitted on all texts; the words of cold
items stand in no trained item). Reports the metric on test rows of cold items and the paired gains
of MiniLM, bootstrapped over users.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.fitting import MAIN, values_of
from experiments.train import write_metrics
from mtl_jax.config import Config
from mtl_jax.core.types import HostArray
from mtl_jax.data.assemble import TextSource
from mtl_jax.data.pipeline import rows_of
from mtl_jax.data.prepared import Prepared
from mtl_jax.job import Job, centred, open_job
from mtl_jax.metrics.base import MEAN
from mtl_jax.metrics.bootstrap import Entry, estimate, paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells
from mtl_jax.train.loop import train
from mtl_jax.train.preemption import Preemption


def tfidf(data: Prepared, width: int) -> HostArray:
    """[n_items, width] TF-IDF of tokens, reduced by SVD, unit rows; row 0 (no item) is zero."""
    tokens, offsets = np.asarray(data.items["tokens"]), np.asarray(data.items["token_offsets"])
    words, place = np.unique(tokens, return_inverse=True)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    counts = np.zeros((len(offsets) - 1, len(words)))
    np.add.at(counts, (row, place), 1.0)
    idf = np.log((1 + len(counts)) / (1 + (counts > 0).sum(0))) + 1
    weighted = counts * idf
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-9)
    left, scale, _ = np.linalg.svd(weighted, full_matrices=False)
    reduced = (left * scale)[:, :width]
    found: HostArray = reduced.astype(np.float32)
    return found


def variants(config: Config, workdir: Path) -> dict[str, Job]:
    """The job with each kind of text."""
    plain = dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, prepared=config.data.prepared or str(workdir / "prepared")
        ),
        train=dataclasses.replace(config.train, eval_part="", monitor="", patience=0),
    )
    encoder = dataclasses.replace(plain.encoder, random=True)
    jobs = {
        "minilm": open_job(plain, workdir / "minilm"),
        "random": open_job(dataclasses.replace(plain, encoder=encoder), workdir / "random"),
    }
    base = jobs["minilm"]
    assert base.assembler.text.vectors is not None
    vectors = tfidf(base.data, base.assembler.text.vectors.shape[1])
    if config.encoder.centre:
        vectors = centred(vectors, np.asarray(base.data.items["warm"]))
    assembler = dataclasses.replace(base.assembler, text=TextSource(vectors=vectors))
    jobs["tfidf"] = dataclasses.replace(base, workdir=workdir / "tfidf", assembler=assembler)
    return jobs


def main() -> None:
    """Train the three, compare on cold items."""
    config, workdir = load_config()
    jobs = variants(config, workdir)
    states: dict[str, Any] = {}
    for name, job in jobs.items():
        job.workdir.mkdir(parents=True, exist_ok=True)
        print(f"training on {name} vectors")
        with Preemption() as preemption:
            states[name] = train(job.run(), None, preemption, not sys.stderr.isatty())[0]
    base = jobs["minilm"]
    index = rows_of(base.assembler, "test")
    cold = ~np.asarray(base.data.items["warm"])[base.data.events["item"][index]]
    index = index[cold]
    truth = base.assembler.event_rows(index)
    results: dict[str, dict[str, Entry]] = {}
    table = Table(title="test rows of items never seen in training, whose words are new")
    for head in ("task", "metric", "which", "value", "95 % interval", "rows"):
        table.add_column(head, justify="right" if head in ("value", "rows") else "left")
    for task in (t for t in config.tasks if t.kind in MAIN and t.level == "event"):
        labelled = truth.masks[task.name] > 0
        keep, y = index[labelled], truth.labels[task.name][labelled].astype(np.float64)
        users = np.asarray(base.data.events["user"][keep])
        metric = MEAN if task.kind == "retrieval" else METRICS[task.kind][MAIN[task.kind]]
        values = {
            n: values_of(j, states[n], (task,), index, truth.masks)[task.name]
            for n, j in jobs.items()
        }
        found = {n: estimate(metric, y, v, users) for n, v in values.items()}
        for other in ("random", "tfidf"):
            gain = paired_difference(metric, y, values["minilm"], values[other], users)
            found[f"minilm - {other}"] = gain
        results[task.name] = found
        for name, entry in found.items():
            table.add_row(task.name, MAIN[task.kind], name, *entry_cells(entry))
        table.add_section()
    Console(width=120).print(table)
    write_metrics(workdir, base.data, {"cold_text": results})


if __name__ == "__main__":
    run(main)
