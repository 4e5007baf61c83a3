"""What is trained: single-task twins, and every combination of trunk and balancer."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtl_jax import balance
from mtl_jax.config import Config, override, parse
from mtl_jax.core.errors import UserError
from mtl_jax.core.names import choose, nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.job import make_balancer
from mtl_jax.nn.trunks import TRUNKS
from mtl_jax.train.config import BalanceConfig

Kind = Literal["together", "same_width", "same_parameters"]
# With one task every trunk that shares everything is the single-task model.
ALONE = "shared_bottom"
Value = float | str | tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One configuration, trained once for each seed.

    kind:  "together", or which twin it is.  name: its folder.
    trunk, balance: as their flags name them, "" for a twin.  task: of a twin.
    """

    kind: Kind
    name: str
    config: Config
    trunk: str = ""
    balance: str = ""
    task: str = ""


def plain_balancer() -> str:
    """The balancer that leaves the tasks' weights as they are configured."""
    return next(name for name in ("ew", "fixed") if name in balance.NAMES)


def balance_config(config: Config, text: str) -> Config:
    """`config` with the balancer of a flag "name[:field=value,...]".

    A field is one of BalanceConfig's, or else an option of the balancer. Options that the
    configuration has are kept where it names the same balancer.
    """
    flag = f"--balance={text}"
    name, _, rest = text.partition(":")
    if name not in balance.NAMES:
        raise UserError(f"{flag}: unknown balancer {name!r}. {nearest(name, balance.NAMES)}")
    own = config.balance
    options: dict[str, Value] = dict(own.options) if own.name == name else {}
    config = dataclasses.replace(config, balance=dataclasses.replace(own, name=name, options=()))
    fields = {f.name for f in dataclasses.fields(BalanceConfig)} - {"name", "options", "points"}
    for part in split_commas(rest):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"{flag}: write it as name:field=value,field=value")
        if field in fields:
            config = override(config, ("balance", field), value, flag)
        else:
            options[field] = parse(value, Value, flag)
    pairs = tuple(options.items())
    made = dataclasses.replace(config, balance=dataclasses.replace(config.balance, options=pairs))
    try:
        make_balancer(made)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    return made


def split_commas(text: str) -> list[str]:
    """Cut at the commas outside of brackets: "a=1,b=(1,2)" has two parts."""
    return [part for part in re.split(r",(?![^(\[]*[)\]])", text) if part.strip()]


def combinations(config: Config, trunks: Sequence[str], balances: Sequence[str]) -> list[Arm]:
    """Every trunk with every balancer, in the order of the flags; each once."""
    arms = []
    for trunk in dict.fromkeys(trunks):
        choose(TRUNKS, trunk, "trunk: --trunk")
        model = dataclasses.replace(config.model, trunk=trunk)
        for text in dict.fromkeys(balances):
            made = balance_config(dataclasses.replace(config, model=model), text)
            arms.append(Arm("together", f"{trunk}/{slug(text)}", made, trunk, text))
    return arms


def twin(config: Config, task: TaskSpec, widths: tuple[int, ...] | None = None) -> Arm:
    """The same model for one task; `widths`: of its trunk, to have as many parameters as wanted.

    Its weight is 1, for there is nothing to weigh it against: optimiser and clipping see the loss
    as it is.
    """
    model = dataclasses.replace(config.model, trunk=ALONE)
    if widths is not None:
        model = dataclasses.replace(model, trunk_widths=widths)
    made = dataclasses.replace(
        config,
        tasks=(dataclasses.replace(task, weight=1.0),),
        model=model,
        balance=BalanceConfig(name=plain_balancer()),
    )
    if widths is None:
        return Arm("same_width", f"alone/{task.name}", made, task=task.name)
    folder = "alone_" + "x".join(map(str, widths))
    return Arm("same_parameters", f"{folder}/{task.name}", made, task=task.name)


def slug(text: str) -> str:
    """A name for a folder."""
    return re.sub(r"[^\w.=+-]+", "_", text).strip("_")
