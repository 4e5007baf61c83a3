"""Turn a source into prepared data: columns, vocabularies, statistics, texts, a cleaning report.

    python -m experiments.prepare --config=experiments/configs/ml100k.py \
        --set=data.folder=path/to/ml-100k --workdir=runs/ml100k
"""

from experiments.common import load_config, run
from mtl_jax.job import prepare_data


def main() -> None:
    """Prepare, and say where the data and its report are."""
    config, workdir = load_config()
    data = prepare_data(config, workdir)
    s = data.schema
    parts = [len(data.part(code)) for code in (0, 1, 2)]
    print((data.folder / "report.md").read_text())
    print(f"{s.n_users - 1:,} users, {s.n_items - 1:,} items, train/valid/test rows {parts}")
    print(f"prepared data: {data.folder}")


if __name__ == "__main__":
    run(main)
