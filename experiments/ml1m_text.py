"""What text is worth on items never seen: their ids and statistics hidden, with and without text.

    python -m experiments.ml1m_text --set=data.folder=../shared/data/ml-1m-collm \
        --workdir=runs/ml1m-text --fold=2002-01-01:2002-04-01 --fold=2001-10-01:2002-01-01

Items are cut into five parts. For each part, a model is trained on the months before FROM without
any row of these items, and asked for their rows between FROM and UNTIL; so every row of these
months is predicted once, by a model that has never met its item. Both arms know the user's
statistics, how good the liked items were, and the item's genres. Year, director and cast count as
text (TEMPLATE): neither arm has them as columns. --columns adds year, director, star and rating as
columns to both arms. The rows of all parts and folds are pooled and compared by a paired bootstrap
over users.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.common import load_config, run
from experiments.rolling import FOLDS, seconds
from mtl_jax.config import Config
from mtl_jax.core.errors import UserError
from mtl_jax.core.types import HostArray
from mtl_jax.data.prepare import prepare_raw, up_to_date
from mtl_jax.data.schema import RawData
from mtl_jax.data.sources.collm import load_collm
from mtl_jax.job import encoder_folder, open_job
from mtl_jax.metrics.bootstrap import Entry, estimate, paired_difference
from mtl_jax.metrics.registry import METRICS
from mtl_jax.metrics.table import entry_cells
from mtl_jax.train.loop import train
from mtl_jax.train.preemption import Preemption

COLUMNS = flags.DEFINE_bool("columns", False, "Year, director, ... as columns of both arms.")
PARTS = flags.DEFINE_integer("parts", 5, "Into how many parts items are cut.")
REPLICATES = 2000
TEMPLATE = "{title} ({year}). Directed by {directors}. Starring {actors}. {plot}"
ARMS = ("with text", "without")
EXTRA = ("user*director", "user*star", "user*decade", "user*rated", "director", "period", "rated")


def hidden_raw(raw: RawData, part: int, fold: str) -> RawData:
    """`raw` whose valid rows are a part's items in the fold, and whose train rows have none.

    Rows that are neither are test rows: in no table, but they date the entries of histories.
    """
    start, end = (seconds(day) for day in fold.split(":"))
    parts = np.random.default_rng(7).integers(0, PARTS.value, raw.items.height)
    hidden = pl.col("item").is_in(raw.items["item"].filter(pl.Series(parts == part)).implode())
    before, within = pl.col("time") < start, pl.col("time").is_between(start, end, closed="left")
    split = pl.when(before & ~hidden).then(0).when(within & hidden).then(1).otherwise(2)
    columns = raw.columns
    if not COLUMNS.value:
        columns = dataclasses.replace(columns, item_categorical=(), item_dense=())
    return dataclasses.replace(raw, events=raw.events.with_columns(split=split), columns=columns)


def arm_config(config: Config, arm: str, prepared: Path) -> Config:
    """The configuration of an arm, on statistics that no item's id enters."""
    keys = ("user", "tags", "user*tags", *(EXTRA if COLUMNS.value else ()))
    strengths = tuple(s for s in config.data.statistics.strengths if s[0] in keys)
    statistics = dataclasses.replace(config.data.statistics, keys=keys, strengths=strengths)
    data = dataclasses.replace(
        config.data,
        split="given",
        template=TEMPLATE,
        statistics=statistics,
        prepared=str(prepared),
        tokenizer=encoder_folder(config.encoder.folder),
    )
    text = arm == "with text"
    decays = (("/text/", 1.0), *config.optim.decays) if text else config.optim.decays
    return dataclasses.replace(
        config,
        tasks=tuple(t for t in config.tasks if t.name == "like"),
        data=data,
        encoder=dataclasses.replace(config.encoder, folder=config.encoder.folder if text else ""),
        model=dataclasses.replace(config.model, wide_text=text),
        optim=dataclasses.replace(config.optim, decays=decays),
    )


def predict(config: Config, workdir: Path) -> tuple[HostArray, HostArray, HostArray]:
    """(source row, user, prediction) of the valid rows, by a model trained anew or taken up."""
    workdir.mkdir(parents=True, exist_ok=True)
    with Preemption() as preemption:
        job = open_job(config, workdir)
        state, _, _ = train(job.run(), lambda _: {}, preemption, quiet=True)
    index = job.data.part(1)
    if job.data.items["warm"][job.data.events["item"][index]].any():
        raise UserError(f"{workdir}: a hidden item was trained on; remove the folder")
    found = job.evaluator().predict(state.params, state.tables, index)["like"]
    events = job.data.events
    return np.asarray(events["row"][index]), np.asarray(events["user"][index]), found


def main() -> None:
    """Train all arms, pool, compare; print and write text.json."""
    config, workdir = load_config()
    if not FOLDS.value:
        raise UserError("--fold is needed, at least once")
    raw = load_collm(config.data.folder)
    label = raw.events["like"].to_numpy().astype(np.float64)
    rows: list[HostArray] = []
    users: list[HostArray] = []
    pooled: dict[str, list[HostArray]] = {arm: [] for arm in ARMS}
    for fold in FOLDS.value:
        for part in range(PARTS.value):
            folder = workdir / fold.replace(":", "_") / str(part)
            for arm in ARMS:
                arm_ = arm_config(config, arm, folder / "prepared")
                prepare_hidden(raw, arm_, part, fold, folder)
                found = predict(arm_, folder / arm.replace(" ", "_"))
                pooled[arm].append(found[2].astype(np.float64))
            rows.append(found[0])
            users.append(found[1])
    report(label[np.concatenate(rows)], np.concatenate(users), pooled, workdir)


def prepare_hidden(raw: RawData, config: Config, part: int, fold: str, folder: Path) -> None:
    """The prepared folder of one part of the items, shared by both arms."""
    folder.mkdir(parents=True, exist_ok=True)
    if not up_to_date(config.data, Path(config.data.prepared)):
        prepare_raw(hidden_raw(raw, part, fold), config.data)


def report(
    y: HostArray, users: HostArray, pooled: dict[str, list[HostArray]], workdir: Path
) -> None:
    """AUC of each arm and their difference, rows of all parts together."""
    auc, n = METRICS["binary"]["auc"], REPLICATES
    arms = {arm: np.concatenate(found) for arm, found in pooled.items()}
    results: dict[str, Entry] = {arm: estimate(auc, y, p, users, n) for arm, p in arms.items()}
    results["gain"] = paired_difference(auc, y, arms[ARMS[0]], arms[ARMS[1]], users, n)
    table = Table(title=f"items never seen, {len(y):,} rows: AUC of like")
    for head in ("arm", "value", "95 % interval"):
        table.add_column(head)
    for name, entry in results.items():
        table.add_row(name, *entry_cells(entry)[:2])
    (workdir / "text.json").write_text(json.dumps(results, indent=1) + "\n")
    Console().print(table)


if __name__ == "__main__":
    run(main)
