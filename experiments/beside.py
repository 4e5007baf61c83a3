"""Train, then stand beside others' predictions of the valid part, row by row: a look at valid.

    python -m experiments.beside --config=experiments/configs/ml1m.py \
        --set=data.folder=../shared/data/ml-1m-collm --workdir=runs/ml1m \
        --others=../shared/oracle/trees-ml-1m-valid.parquet

The file has a row per valid row in the order of the source (`row`, and `uid` or `user_id`) and, of
each other, a score: in a column of its name, or of its name and the label's (`trees_like`,
`trees_is_like`). Differences are by a paired bootstrap over users. Training never looks at valid,
so every run is one look: a journal in docs/ counts them.
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
from mtl_jax.metrics.base import Undefined
from mtl_jax.metrics.bootstrap import Entry, estimate, paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells, number

OTHERS = flags.DEFINE_string("others", "", "Parquet file of others' predictions of valid rows.")
NAMES = flags.DEFINE_list("names", "floor,trees", "The others, as their columns are named.")
SAVED = flags.DEFINE_string(
    "predictions", "", "Where to write ours, in the same order; '' nowhere."
)
REPLICATES = 2000


def others_of(data: Prepared, index: HostArray, path: Path) -> pl.DataFrame:
    """The file's rows for events `index` of the valid part; UserError where they do not match."""
    if not path.is_file():
        raise UserError(f"--others={path}: there is no such file")
    frame = pl.read_parquet(path).sort("row")
    user = next((name for name in ("uid", "user_id") if name in frame.columns), None)
    if user is None:
        raise UserError(f"--others={path}: there is no column uid or user_id: {frame.columns}")
    rows = np.asarray(data.events["row"][index])
    if frame.height != len(rows):
        raise UserError(f"--others={path}: {frame.height} rows, valid has {len(rows)}")
    frame = frame[np.argsort(np.argsort(rows))]
    users = np.asarray(data.vocabulary("users").values)[np.asarray(data.events["user"][index])]
    if frame[user].cast(pl.String).to_list() != users.tolist():
        raise UserError(f"--others={path}: its users are not those of valid, row by row")
    return frame


def score_of(frame: pl.DataFrame, name: str, label: str) -> HostArray | None:
    """The other's scores of a label [n] float64, None if it has none."""
    for column in (f"{name}_{label}", f"{name}_is_{label}", name):
        if column in frame.columns:
            return frame[column].cast(pl.Float64).to_numpy()
    return None


def main() -> None:
    """Train, predict valid, compare."""
    config, workdir = load_config()
    if config.train.eval_part or config.data.split != "given":
        raise UserError('a look at valid needs data.split=given and train.eval_part=""')
    job, state = fit(config, workdir)
    data = job.data
    index = data.part(1)
    frame = others_of(data, index, Path(OTHERS.value))
    found = job.evaluator().predict(state.params, state.tables, index)
    users = np.asarray(data.events["user"][index])
    table = Table(title=f"valid, {len(index):,} rows, {len(np.unique(users)):,} users")
    for head in ("task", "what", "value", "95 % interval"):
        table.add_column(head)
    results: dict[str, dict[str, Entry]] = {}
    for task in (t for t in config.tasks if t.kind == "binary" and t.level == "event"):
        y = np.asarray(data.events[f"label_{task.label}"][index], np.float64)
        ours = found[task.name].astype(np.float64)
        told = results.setdefault(task.name, {})
        for metric in ("auc", "grouped_auc"):
            measure = METRICS["binary"][metric]
            try:
                told[metric] = estimate(measure, y, ours, users, REPLICATES)
            except Undefined:
                continue
            for name in NAMES.value:
                other = score_of(frame, name, task.label)
                if other is None:
                    continue
                table.add_row(
                    task.name, f"{metric} of {name}", number(measure(y, other, users=users)), ""
                )
                told[f"{metric} - {name}"] = paired_difference(
                    measure, y, ours, other, users, REPLICATES
                )
            for name, entry in told.items():
                if name.split(" ")[0] == metric:
                    table.add_row(task.name, name, *entry_cells(entry)[:2])
    written = {"data_split": data.split_hash, "valid": results}
    (workdir / "beside.json").write_text(json.dumps(written, indent=1) + "\n")
    if SAVED.value:
        order = np.argsort(np.asarray(data.events["row"][index]))
        saved = {k: v[order] for k, v in found.items() if v.ndim == 1}
        pl.DataFrame({"row": np.arange(len(order)), **saved}).write_parquet(SAVED.value)
    Console().print(table)


if __name__ == "__main__":
    run(main)
