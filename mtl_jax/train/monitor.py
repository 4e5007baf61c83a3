"""The monitored metric, "task/metric" on all rows: which are known, and which way is better."""

from collections.abc import Iterable
from typing import Any

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.metrics.registry import METRICS, RANKING, higher_is_better
from mtl_jax.metrics.report import KS
from mtl_jax.nn.model import Model


def monitored(name: str, metrics: dict[str, Any]) -> float | None:
    """Value of "task/metric" on all rows, None without a monitor or where it is undefined."""
    if not name:
        return None
    task, _, metric = name.partition("/")
    value: float | None = metrics[task]["all"][metric]["value"]
    return value


def check_monitor(name: str, model: Model) -> None:
    """Refuse, before anything is compiled, a monitor that no evaluation will give."""
    if not name:
        return
    known = [
        f"{t.name}/{m}"
        for t in model.tasks
        for m in (METRICS[t.kind] if t.kind != "retrieval" else (*at_ks(RANKING), "mrr"))
    ]
    if name not in known:
        raise UserError(f"train.monitor={name!r}: no such metric. {nearest(name, known)}")


def at_ks(names: Iterable[str]) -> list[str]:
    """ "recall@5" and so on."""
    return [f"{name}@{k}" for name in names for k in KS]


def higher(monitor: str) -> bool:
    """Whether more of the monitored metric is better."""
    return not monitor or higher_is_better(monitor.partition("/")[2])
