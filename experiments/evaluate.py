"""Evaluate a trained run on a part of its data and add the part to metrics.json.

python -m experiments.evaluate --workdir=runs/ml100k --split=test
"""

from pathlib import Path

from absl import flags
from rich.console import Console

from experiments.common import MESH, WORKDIR, run
from experiments.train import write_metrics
from mtl_jax.data.pipeline import PARTS
from mtl_jax.metrics.table import metrics_table
from mtl_jax.restore import open_trained
from mtl_jax.train.evaluation import evaluate

SPLIT = flags.DEFINE_enum("split", "test", list(PARTS)[1:], "Which part to evaluate on.")
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the one training kept by default.")
REPLICATES = flags.DEFINE_integer("replicates", 500, "Bootstrap replicates over users.")


def main() -> None:
    """Evaluate, print the table, write metrics.json."""
    workdir = Path(WORKDIR.value)
    trained = open_trained(workdir, STEP.value, MESH.value)
    results, _, _ = evaluate(
        trained.job.evaluator(),
        trained.state.params,
        trained.state.tables,
        SPLIT.value,
        REPLICATES.value,
    )
    write_metrics(workdir, trained.job.data, {SPLIT.value: results})
    Console().print(metrics_table({SPLIT.value: results}, f"step {trained.step}"))
    print(f"metrics: {workdir / 'metrics.json'}")


if __name__ == "__main__":
    run(main)
