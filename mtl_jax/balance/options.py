"""What options of balancers may be: refused by name where they make no sense."""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest

INF = float("inf")
ABOVE_0, FROM_0, FROM_1 = "above 0", "from 0 on", "from 1 on"
# Of every balancer that has such an option, unless (balancer, option) says otherwise.
RANGES: dict[str | tuple[str, str], str] = {
    "learning_rate": ABOVE_0, "temperature": ABOVE_0, "mu": ABOVE_0, "step_size": ABOVE_0,
    "gamma": ABOVE_0, "steps_per_epoch": FROM_1, "iterations": FROM_1, "warmup_epochs": FROM_0,
    "primary": FROM_0, "c": FROM_0, "max_norm": FROM_0, "alpha": FROM_0, "rho": FROM_0,
    "lam": FROM_0, "decay": FROM_0, "eps": FROM_0, "beta_sigma": FROM_0, "gamma_sigma": FROM_0,
    "weights": FROM_0, "preference": FROM_0,
    "beta": "from 0 to 1", "tau": "from 0 to 1", "leak": "from 0 to 1",
    "momentum": "from 0 to below 1", ("pcd", "beta"): "from 0 to below 1",
    ("moco", "beta"): "above 0 to 1", ("fairgrad", "alpha"): "from 0.5 to 10",
}  # fmt: skip
WITHIN: dict[str, Callable[[float], bool]] = {
    ABOVE_0: lambda x: x > 0,
    FROM_0: lambda x: x >= 0,
    FROM_1: lambda x: x >= 1,
    "from 0 to 1": lambda x: 0 <= x <= 1,
    "from 0 to below 1": lambda x: 0 <= x < 1,
    "above 0 to 1": lambda x: 0 < x <= 1,
    "from 0.5 to 10": lambda x: 0.5 <= x <= 10,
}


def checked(cls: Any, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options; UserError naming balancer and option for one unknown, of a wrong kind or size.

    Whole numbers may come as floats: a configuration file has one kind of number.
    """
    known = [f.name for f in dataclasses.fields(cls)]
    hints = typing.get_type_hints(cls)
    found = {}
    for option, value in options.items():
        if option not in known:
            raise UserError(f"balancer {name!r} has no option {option!r}. {nearest(option, known)}")
        whole = isinstance(value, float) and value.is_integer()
        found[option] = int(value) if whole and hints[option] is int else value
        _check_kind(name, option, found[option], hints[option])
        _check_size(name, option, found[option])
    return found


def _check_size(name: str, option: str, value: Any) -> None:
    if isinstance(value, str):
        return
    for x in value if isinstance(value, tuple | list) else (value,):
        if isinstance(x, tuple | list):  # points of a schedule have their own check
            continue
        if not isinstance(x, int | float) or not math.isfinite(x):
            raise UserError(f"balancer {name!r}: {option}={value!r}: give finite numbers")
        wanted = RANGES.get((name, option), RANGES.get(option, ""))
        if wanted and not WITHIN[wanted](x):
            raise UserError(f"balancer {name!r}: {option}={value!r}: it must be {wanted}")


def _check_kind(name: str, option: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices or isinstance(value, bool):
            told = nearest(str(value), map(str, choices))
            raise UserError(f"balancer {name!r}: {option}={value!r} is unknown. {told}")
    elif hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (hint is float and isinstance(value, float)):
            what = "a whole number" if hint is int else "a number"
            raise UserError(f"balancer {name!r}: {option}={value!r} is not {what}")
    elif not isinstance(value, tuple | list):
        raise UserError(f"balancer {name!r}: {option}={value!r}: give one value per task")


def check_length(name: str, option: str, values: Sequence[Any], n_tasks: int) -> None:
    """UserError where an option with a value per task has another number of them; () is none."""
    if values and len(values) != n_tasks:
        raise UserError(
            f"balancer {name!r}: {option} has {len(values)} values, there are {n_tasks} tasks"
        )
