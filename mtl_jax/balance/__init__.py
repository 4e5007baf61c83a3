"""Balancers: from losses and task gradients to the weights of the shared update.

b = balance.get("nash", max_norm=1.0)
state = b.init(T)                    # b.init(T, grads_like=tree) where gradients are remembered
update = b.update(balance.Stats(losses=L, present=mask, step=t, gram=G), state, key)
"""

import dataclasses
from typing import Any

from mtl_jax.balance.bargain import FairGrad, Nash
from mtl_jax.balance.cagrad import CAGrad
from mtl_jax.balance.dual_cone import PCD, DualProj, UPGrad
from mtl_jax.balance.dwa import DWA
from mtl_jax.balance.eigen import IMTL, IMTLG, AlignedMTL, ConFIG
from mtl_jax.balance.famo import FAMO
from mtl_jax.balance.fixed import RLW, Fixed, Scheduled
from mtl_jax.balance.gradnorm import GradNorm
from mtl_jax.balance.mgda import MGDA
from mtl_jax.balance.moving import DBMTL, ExcessMTL, GradDrop, MoCo
from mtl_jax.balance.options import checked
from mtl_jax.balance.scalarize import GLS, STCH
from mtl_jax.balance.stats import Balancer, Stats, Update
from mtl_jax.balance.surgery import GradVac, PCGrad
from mtl_jax.balance.transform import as_optax
from mtl_jax.balance.two_batches import MoDo, SDMGrad
from mtl_jax.balance.uncertainty import IMTLL, Uncertainty
from mtl_jax.core.names import choose

__all__ = ["NAMES", "Balancer", "Stats", "Update", "as_optax", "get", "options"]

_BALANCERS: dict[str, Any] = {
    "fixed": Fixed,
    "scheduled": Scheduled,
    "uncertainty": Uncertainty,
    "ew": Fixed,
    "uw": Uncertainty,
    "imtl_l": IMTLL,
    "dwa": DWA,
    "rlw": RLW,
    "gls": GLS,
    "stch": STCH,
    "famo": FAMO,
    "gradnorm": GradNorm,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "cagrad": CAGrad,
    "nash": Nash,
    "fairgrad": FairGrad,
    "imtl_g": IMTLG,
    "imtl": IMTL,
    "aligned_mtl": AlignedMTL,
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "config": ConFIG,
    "pcd": PCD,
    "modo": MoDo,
    "sdmgrad": SDMGrad,
    "moco": MoCo,
    "db_mtl": DBMTL,
    "excess_mtl": ExcessMTL,
    "graddrop": GradDrop,
}

# name -> what it needs of a step: losses, gram, cross_gram, grads or losses_after
NAMES: dict[str, str] = {name: cls.needs for name, cls in _BALANCERS.items()}


def get(name: str, **options: Any) -> Balancer:
    """The balancer of that name; UserError for names and options unknown or without sense."""
    cls = choose(_BALANCERS, name, "balancer")
    balancer: Balancer = cls(**checked(cls, name, options))
    return balancer


def options(name: str) -> tuple[str, ...]:
    """The options of the balancer of that name."""
    return tuple(f.name for f in dataclasses.fields(choose(_BALANCERS, name, "balancer")))
