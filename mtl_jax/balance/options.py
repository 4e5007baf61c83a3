"""What options of balancers may be: refused by name where they make no sense."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest

# Of every balancer that has such an option: (least, most, whether least itself is allowed).
RANGES: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (0.0, float("inf"), False),
    "temperature": (0.0, float("inf"), False),
    "mu": (0.0, float("inf"), False),
    "step_size": (0.0, float("inf"), False),
    "gamma": (0.0, float("inf"), False),
    "steps_per_epoch": (1, float("inf"), True),
    "iterations": (1, float("inf"), True),
    "warmup_epochs": (0, float("inf"), True),
    "primary": (0, float("inf"), True),
    "c": (0.0, float("inf"), True),
    "max_norm": (0.0, float("inf"), True),
    "alpha": (0.0, float("inf"), True),
    "rho": (0.0, float("inf"), True),
    "lam": (0.0, float("inf"), True),
    "decay": (0.0, float("inf"), True),
    "eps": (0.0, float("inf"), True),
    "beta_sigma": (0.0, float("inf"), True),
    "gamma_sigma": (0.0, float("inf"), True),
    "beta": (0.0, 1.0, True),
    "momentum": (0.0, 1.0, True),
    "tau": (0.0, 1.0, True),
    "leak": (0.0, 1.0, True),
}


def check_options(cls: Any, name: str, options: dict[str, Any]) -> None:
    """UserError naming balancer and option for one that is unknown, of a wrong kind or size."""
    known = [f.name for f in dataclasses.fields(cls)]
    hints = typing.get_type_hints(cls)
    for option, value in options.items():
        if option not in known:
            raise UserError(f"balancer {name!r} has no option {option!r}. {nearest(option, known)}")
        _check_kind(name, option, value, hints[option])
        if option in RANGES:
            least, most, allowed = RANGES[option]
            if not (least <= value <= most) or (value == least and not allowed):
                says = f"{'from' if allowed else 'above'} {least:g}"
                says += "" if most == float("inf") else f" to {most:g}"
                raise UserError(f"balancer {name!r}: {option}={value!r}: it must be {says}")


def _check_kind(name: str, option: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
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
