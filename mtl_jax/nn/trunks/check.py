"""What a trunk needs of its configuration and of the tasks; refused by name where it is missing."""

import math

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.nn.config import ModelConfig

CHAINS = ("esmm", "aitm", "classifier_chain")
# Of these a trunk without layers would have nothing to mix.
LAYERED = ("omoe", "mmoe", "cgc", "ple", "cross_stitch", "mtan", "dselect_k", "stem", "adatt")
COUNTS = ("experts", "task_experts", "levels", "experts_k")
WEIGHTS = ("entropy_weight", "calibrator_weight")
SCALES = ("gate_temperature", "step_width")


def trunk_tasks(tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
    """The tasks whose heads stand on the trunk: those on events that are read off z."""
    return tuple(
        t
        for t in tasks
        if t.level == "event"
        and t.kind not in ("retrieval", "similarity")
        and t.label != "interest"
    )


def check_trunk(config: ModelConfig, tasks: tuple[TaskSpec, ...]) -> None:
    """UserError naming the field of `model` that its trunk cannot work with."""
    for name in COUNTS:
        if getattr(config, name) < 1:
            _refuse(config, name, "it must be 1 or above")
    for name in SCALES:
        if not (math.isfinite(getattr(config, name)) and getattr(config, name) > 0.0):
            _refuse(config, name, "it must be above 0")
    for name in WEIGHTS:
        if not (math.isfinite(getattr(config, name)) and getattr(config, name) >= 0.0):
            _refuse(config, name, "it must be 0 or above")
    least = 0 if config.trunk == "adatt" else 1
    if config.shared_experts < least:
        _refuse(config, "shared_experts", f"trunk {config.trunk!r} needs {least} or more")
    if config.trunk == "dselect_k" and config.experts < 2:
        _refuse(config, "experts", "there is nothing to select from")
    if config.trunk == "dselect_k" and not config.experts_k <= config.experts:
        _refuse(config, "experts_k", f"there are only {config.experts} experts")
    if any(width < 1 for width in config.trunk_widths):
        _refuse(config, "trunk_widths", "every width must be 1 or above")
    if config.trunk in LAYERED and not config.trunk_widths:
        _refuse(config, "trunk_widths", f"trunk {config.trunk!r} needs at least one layer")
    ours = trunk_tasks(tasks)
    if not ours and config.trunk in LAYERED:
        _refuse(config, "trunk", "no task's head stands on the trunk; leave it 'shared_bottom'")
    if config.trunk in CHAINS:
        _check_chain(config, ours)


def _check_chain(config: ModelConfig, tasks: tuple[TaskSpec, ...]) -> None:
    binary = [t.name for t in tasks if t.kind == "binary"]
    known = f"Tasks that may stand in it: {', '.join(binary) or 'none'}"
    if len(config.chain) < 2:
        why = f"trunk {config.trunk!r} needs two or more binary tasks in causal order, e.g. "
        _refuse(config, "chain", f"{why}('click', 'purchase'). {known}")
    if len(set(config.chain)) < len(config.chain):
        _refuse(config, "chain", f"a task is named twice. {known}")
    kinds = {t.name: t.kind for t in tasks}
    for name in config.chain:
        if name not in kinds:
            near = nearest(name, binary)
            _refuse(config, "chain", f"there is no such task {name!r}. {near} {known}")
        if kinds[name] != "binary":
            _refuse(config, "chain", f"task {name!r} is {kinds[name]!r} and not 'binary'. {known}")


def _refuse(config: ModelConfig, field: str, why: str) -> None:
    raise UserError(f"model.{field}={getattr(config, field)!r}: {why}")
