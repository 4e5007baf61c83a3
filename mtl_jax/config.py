"""The root configuration: parts owned by their code, one Python file, `--set` overrides, JSON.

A config file is Python with `get_config() -> Config`. Overrides are "path=value" with the value
read as the field's type: `train.steps=100`, `model.trunk_widths=(64,32)`, `tasks.click.weight=2`.
"""

import ast
import dataclasses
import runpy
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.serve.config import RankConfig
from mtl_jax.train.config import BalanceConfig, OptimConfig, TrainConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """Everything a run depends on; saved in every checkpoint."""

    tasks: tuple[TaskSpec, ...]
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    encoder: EncoderChoice = field(default_factory=EncoderChoice)
    model: ModelConfig = field(default_factory=ModelConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rank: RankConfig = field(default_factory=RankConfig)


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """The Config of a config file, with overrides applied in order.

    Raises UserError: no such file, no get_config in it, unknown or ill-typed fields.
    """
    if not Path(path).is_file():
        raise UserError(f"--config={path}: there is no such file")
    names = runpy.run_path(path)
    if "get_config" not in names:
        raise UserError(f"--config={path}: the file defines no get_config()")
    config = names["get_config"]()
    if not isinstance(config, Config):
        raise UserError(f"--config={path}: get_config() must return a mtl_jax.config.Config")
    for text in overrides:
        path_, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set={text}: write it as path=value, e.g. train.steps=100")
        config = override(config, path_.strip().split("."), value.strip(), f"--set={text}")
    return config


def override(node: T, path: Sequence[str], text: str, flag: str) -> T:
    """`node` with the field at `path` set to `text` read as that field's type."""
    name, rest = path[0], path[1:]
    if isinstance(node, tuple):  # tasks are named by their names
        known = [item.name for item in node]
        if name not in known or not rest:
            raise UserError(f"{flag}: no task {name!r}. {nearest(name, known)}")
        changed = (override(i, rest, text, flag) if i.name == name else i for i in node)
        return typing.cast(T, tuple(changed))
    hints = typing.get_type_hints(type(node))
    if name not in hints:
        raise UserError(
            f"{flag}: {type(node).__name__} has no field {name!r}. {nearest(name, hints)}"
        )
    value = getattr(node, name)
    if rest and not (dataclasses.is_dataclass(value) or name == "tasks"):
        raise UserError(f"{flag}: {name!r} is a value and has no field {rest[0]!r}")
    if not rest and dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value)]
        raise UserError(f"{flag}: {name!r} is a group; name one of its fields: {', '.join(fields)}")
    new = override(value, rest, text, flag) if rest else parse(text, hints[name], flag)
    frozen: Any = node
    changed_node: T = dataclasses.replace(frozen, **{name: new})
    return changed_node


def parse(text: str, kind: Any, flag: str) -> Any:
    """`text` as a value of the annotated type; strings need no quotes."""
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    return check(value, kind, flag)


def check(value: Any, kind: Any, flag: str) -> Any:
    """`value` as `kind` (lists become tuples, whole floats stay floats), or a UserError."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(value, kind, flag)
    if origin is typing.Literal:
        if value not in args:
            near = nearest(str(value), map(str, args))
            raise UserError(f"{flag}: {value!r} is not one of {', '.join(map(repr, args))}. {near}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _one_of(value, [a for a in args if a is not type(None)], flag)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{flag}: {value!r} is not a tuple; write it as (a, b)")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(check(v, args[0], flag) for v in value)
        if len(value) != len(args):
            raise UserError(f"{flag}: {value!r} has {len(value)} parts, {len(args)} are needed")
        return tuple(check(v, a, flag) for v, a in zip(value, args, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{flag}: {value!r} is not of type {kind.__name__}")
    return value


def _one_of(value: Any, kinds: Sequence[Any], flag: str) -> Any:
    """`value` as the first of `kinds` that takes it; the last one says why none does."""
    for kind in kinds[:-1]:
        try:
            return check(value, kind, flag)
        except UserError:
            continue
    return check(value, kinds[-1], flag)


def _dataclass(value: Any, kind: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value):
        return value
    if not isinstance(value, dict):
        raise UserError(f"{where}: {value!r} is no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise UserError(
                f"{where}: {kind.__name__} has no field {name!r}. {nearest(name, hints)}"
            )
    return kind(**{k: check(v, hints[k], f"{where}.{k}") for k, v in value.items()})


def to_dict(config: Config) -> dict[str, Any]:
    """Only what JSON knows; `from_dict` is the inverse."""
    found: dict[str, Any] = _jsonable(dataclasses.asdict(config))
    return found


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    return [_jsonable(v) for v in value] if isinstance(value, tuple | list) else value


def from_dict(values: dict[str, Any]) -> Config:
    """The Config that `to_dict` wrote; unknown or ill-typed fields are refused."""
    config: Config = check(values, Config, "config")
    return config
