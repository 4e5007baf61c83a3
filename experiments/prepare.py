"""Turn a source into prepared data: columns, vocabularies, statistics, texts, a cleaning report.

    python -m experiments.prepare --config=experiments/configs/ml100k.py \
        --set=data.folder=path/to/ml-100k --workdir=runs/ml100k

For data of your own, let it look at the files first: it says what it takes each column for, and
writes a proposal to edit, `schema.toml` and `config.py`, into --workdir:

    python -m experiments.prepare --inspect=path/to/files --workdir=runs/mine
    python -m experiments.prepare --config=runs/mine/config.py --workdir=runs/mine
"""

from pathlib import Path

from absl import flags

from experiments.common import WORKDIR, load_config, run
from mtl_jax.core.errors import UserError
from mtl_jax.data.sources.tables.inspect import inspect
from mtl_jax.job import prepare_data

INSPECT = flags.DEFINE_string("inspect", "", "A folder of files: propose a schema and a config.")


def main() -> None:
    """Prepare, and say where the data and its report are; or look at files and propose."""
    if INSPECT.value:
        propose(Path(INSPECT.value), Path(WORKDIR.value))
        return
    config, workdir = load_config()
    data = prepare_data(config, workdir)
    s = data.schema
    parts = [len(data.part(code)) for code in (0, 1, 2)]
    print((data.folder / "report.md").read_text())
    print(f"{s.n_users - 1:,} users, {s.n_items - 1:,} items, train/valid/test rows {parts}")
    print(f"prepared data: {data.folder}")


def propose(folder: Path, workdir: Path) -> None:
    """Print what the files look like, and write `schema.toml` and `config.py` into `workdir`."""
    if not WORKDIR.present:
        raise UserError(f"--inspect={folder} needs --workdir=..., the folder for its proposal")
    told, written = inspect(folder, workdir)
    print(told)
    print(f"\nwritten: {', '.join(map(str, written))}. Read them, then:")
    for script in ("prepare", "train"):
        print(f"  python -m experiments.{script} --config={written[1]} --workdir={workdir}")
    print(f"  python -m experiments.recommend --workdir={workdir} --user=...")


if __name__ == "__main__":
    run(main)
