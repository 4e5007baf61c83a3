"""Balancers: from losses to the weights of the shared update.

b = balance.get("uncertainty", weights=(1.0, 0.5))
state = b.init(2)
update = b.update(balance.Stats(losses=L, present=mask, step=t), state, key)
"""

import dataclasses
from typing import Any

from mtl_jax.balance.fixed import Fixed, Scheduled
from mtl_jax.balance.stats import Balancer, Stats, Update
from mtl_jax.balance.uncertainty import Uncertainty
from mtl_jax.core.errors import UserError
from mtl_jax.core.names import choose, nearest

__all__ = ["NAMES", "Balancer", "Stats", "Update", "get"]

_BALANCERS: dict[str, Any] = {"fixed": Fixed, "scheduled": Scheduled, "uncertainty": Uncertainty}

# name -> what it needs of a step
NAMES: dict[str, str] = dict.fromkeys(_BALANCERS, "losses")


def get(name: str, **options: Any) -> Balancer:
    """The balancer of that name; unknown names and options are refused with the nearest one."""
    cls = choose(_BALANCERS, name, "balancer")
    fields = [f.name for f in dataclasses.fields(cls)]
    for option in options:
        if option not in fields:
            raise UserError(
                f"balancer {name!r} has no option {option!r}. {nearest(option, fields)}"
            )
    balancer: Balancer = cls(**options)
    return balancer
