"""A look at valid: refitted on all of train, against the floor and the trees row by row.

    python -m experiments.ml1m_valid --config=experiments/configs/ml1m.py \
        --set=data.folder=../shared/data/ml-1m-collm --workdir=runs/ml1m \
        --oracle=../shared/oracle/trees-ml-1m-valid.parquet

Every run of it is a look at valid: docs/ml1m-journal.md counts them.
"""

import json
from pathlib import Path

import numpy as np
import polars as pl
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.rolling import fit
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.prepared import Prepared
from mtl_jax.metrics.bootstrap import Entry, estimate, paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells, number

ORACLE = flags.DEFINE_string(
    "oracle",
    "../shared/oracle/trees-ml-1m-valid.parquet",
    "Predictions of floor and trees, one row per row of valid.parquet.",
)
REPLICATES = 2000


def oracle_of(data: Prepared, index: HostArray, path: Path) -> dict[str, HostArray]:
    """floor and trees of events `index` of the valid part; UserError where they do not match."""
    if not path.is_file():
        raise UserError(f"--oracle={path}: there is no such file")
    frame = pl.read_parquet(path).sort("row")
    at = np.asarray(data.events["row"][index]) - len(data.part(0))
    if frame.height != len(index) or len(np.unique(at)) != len(index) or at.min() != 0:
        raise UserError(f"--oracle={path}: {frame.height} rows, valid has {len(index)}")
    users = np.asarray(data.vocabulary("users").values)[np.asarray(data.events["user"][index])]
    if frame["uid"].cast(pl.String).to_numpy()[at].tolist() != users.tolist():
        raise UserError(f"--oracle={path}: its users are not those of valid, row by row")
    return {name: frame[name].to_numpy()[at].astype(np.float64) for name in ("floor", "trees")}


def main() -> None:
    """Train, predict valid, compare."""
    config, workdir = load_config()
    if config.train.eval_part or config.data.split != "given":
        raise UserError('a look at valid needs data.split=given and train.eval_part=""')
    job, state = fit(config, workdir)
    data = job.data
    index = data.part(1)
    others = oracle_of(data, index, Path(ORACLE.value))
    found = job.evaluator().predict(state.params, state.tables, index)["like"].astype(np.float64)
    y = np.asarray(data.events["label_like"][index], np.float64)
    users = np.asarray(data.events["user"][index])
    table = Table(title=f"valid, like, {len(y):,} rows")
    for head in ("what", "value", "95 % interval"):
        table.add_column(head)
    results: dict[str, Entry] = {}
    n = REPLICATES
    for metric in ("auc", "grouped_auc"):
        if metric not in METRICS["binary"]:
            continue
        measure = METRICS["binary"][metric]
        results[metric] = estimate(measure, y, found, users, n)
        for name, other in others.items():
            table.add_row(f"{metric} of {name}", number(measure(y, other, users=users)), "")
            difference = paired_difference(measure, y, found, other, users, n)
            results[f"{metric} - {name}"] = difference
        for name in (metric, *(f"{metric} - {name}" for name in others)):
            table.add_row(name, *entry_cells(results[name])[:2])
    (workdir / "valid.json").write_text(json.dumps(results, indent=1) + "\n")
    Console().print(table)


if __name__ == "__main__":
    run(main)
