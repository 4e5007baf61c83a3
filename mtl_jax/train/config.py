"""What training is told; owned here, composed in `mtl_jax/config.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and what they touch.

    name:           "adamw", "adam" or "sgd".
    learning_rate:  of everything that no rule names; tables use it too.
    rates:          (regular expression on the path, factor on the learning rate); first match wins.
                    The encoder's default is a twentieth.
    decay, no_decay: decoupled weight decay; paths that it leaves alone.
    decays:         (regular expression on the path, decay instead of `decay`); first match wins.
    table_optimiser: "adam" or "adagrad", both on the rows a batch touches (`docs/tables.md`).
    table_rate:     factor on the learning rate of the tables; Adagrad wants 10 to 100.
    table_decay:    decoupled decay on the vectors (not the biases) of the rows a batch touches.
    warmup:         steps of linear warm-up; then cosine to `final` times the rate, or constant.
    clip:           global norm to which gradients are clipped, 0 = not.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    rates: tuple[tuple[str, float], ...] = (("^encoder/", 0.05),)
    decay: float = 0.01
    decays: tuple[tuple[str, float], ...] = ()
    no_decay: tuple[str, ...] = ("bias$", "norm", "scale$", "shift$", "position$")
    table_optimiser: Literal["adam", "adagrad"] = "adam"
    table_rate: float = 1.0
    table_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    momentum: float = 0.9
    warmup: int = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.01
    clip: float = 1.0


@dataclass(frozen=True)
class BalanceConfig:
    """Which balancer weighs the tasks, on which gradients, and its options as (name, value) pairs.

    name:       a key of `mtl_jax.balance.NAMES`. Every loss is first multiplied by its task's own
                weight alpha; methods that do not see the scale of a loss take alpha back out.
                "scheduled" takes points: (task, ((step, factor), )).
    level:      where a method that asks for gradients takes them. "representation": with respect to
                all that the towers hand to trunk and heads (z, the items' and users' vectors): one
                pass of the heads per task and one backward pass of all the rest. "last_shared":
                the last shared layer's parameters. "shared": all shared parameters, embedding
                tables through the rows that the batch gathered; exact, a whole backward pass per
                task. The weights found apply to every shared parameter at any level.
    last_shared: regular expression on parameter paths for "last_shared"; "" asks the trunk.
    gram_every: gradients are looked at every so many steps; the weights found stay until then.
    heads:      gradients of a task's own parameters: "unit", that of its loss (times alpha), or
                "weighted" by the balancer as the shared ones are. Methods that only weigh losses
                always weigh both.
    """

    name: str = "fixed"
    options: tuple[tuple[str, float | str | tuple[float, ...]], ...] = ()
    points: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    level: Literal["representation", "last_shared", "shared"] = "representation"
    last_shared: str = ""
    gram_every: int = 1
    heads: Literal["unit", "weighted"] = "unit"


@dataclass(frozen=True)
class TrainConfig:
    """The loop.

    steps, epochs:  how long; epochs count where steps is 0.
    seed:           of initialisation, dropout and the order of rows.
    order_seed:     of the order of rows and of drawn candidates; -1 = seed.
    eval_every:     steps between evaluations on `eval_part`; 0 is once per epoch; -1 never.
    eval_part:      "valid", or "" to train without looking at anything else.
    eval_batch, eval_rows: rows of an evaluation batch; rows looked at in training (0 = all).
    monitor:        "task/metric" whose best step is kept and restored; "" keeps the last.
    patience:       evaluations without a better monitor before training stops; 0 = never.
    checkpoint_every: steps between checkpoints besides those at evaluations; 0 = none.
    log_every:      steps between lines of metrics.jsonl and TensorBoard.
    non_finite:     how many non-finite updates are skipped before the run stops.
    bootstrap:      replicates of intervals in evaluations during training; 0 = none.
    mesh:           devices of the data axis, 0 = all there are; or sizes of the axes data, fsdp,
                    tensor, expert, e.g. "data=4,fsdp=2" (docs/scaling.md).
    """

    steps: int = 0
    epochs: int = 1
    seed: int = 0
    order_seed: int = -1
    eval_every: int = 0
    eval_part: Literal["valid", "test", ""] = "valid"
    eval_batch: int = 1024
    eval_rows: int = 0
    monitor: str = ""
    patience: int = 0
    checkpoint_every: int = 0
    log_every: int = 20
    non_finite: int = 0
    bootstrap: int = 0
    mesh: int | str = 0
