"""A config file out of guesses: a task per label, and sizes that fit the log."""

from pathlib import Path
from typing import Any

from mtl_jax.data.sources.tables.guess import Guesses
from mtl_jax.data.sources.tables.propose import label_rules, positive


def config_text(found: Guesses, folder: Path) -> str:
    """The config file: a task per label, next item, and sizes that fit the log."""
    labels = label_rules(found)
    rows = sum(head.frame.height for head in found.events.heads)
    text = bool((found.items or found.events).of("item text"))
    tasks, ranking = [], []
    for name, rule in labels.items():
        if "always" not in rule and (rule.get("kind") != "value" or "low" in rule):
            ranking.append(name)
        if rule.get("kind") == "value":
            grades = f", low={rule['low']:g}.0, high={rule['high']:g}.0" if "low" in rule else ""
            grades = grades.replace(".5.0", ".5")
            tasks.append(f'TaskSpec("{name}", "regression", "{name}"{grades}),')
        elif "always" not in rule:
            tasks.append(f'TaskSpec("{name}", "binary", "{name}"),')
    looked = bool(found.events.of("behaviour")) and positive(labels) == "interaction"
    keyed = bool(found.events.of("user")) and bool(found.events.of("item"))
    if keyed:
        weight = ", weight=0.2" if tasks else ""
        label = positive(labels)
        tasks.append(f'TaskSpec("next_item", "retrieval", "{label}"{weight}),')
        ranking.append("next_item")
    return CONFIG.format(
        tasks="\n            ".join(tasks),
        configs="DataConfig" if keyed else "DataConfig, StatisticsConfig",
        folder=str(folder.resolve()),
        template="{text}" if text else "",
        split=_split(found),
        statistics="" if keyed else f"\n            statistics={STATISTICS},",
        encoder="minilm" if text else "",
        reads='  # MiniLM reads the texts; "" leaves them out' if text else "  # no texts",
        size=_batch(rows),
        ids=""
        if keyed
        else "\n            item_id=False,\n            user_id=False,"
        "\n            target_attention=False,",
        monitor=_monitor(labels),
        kept="; what was only looked at may come again" if looked else "",
        again="\n            exclude_consumed=False," if looked else "",
        rank="\n                ".join(f'("{name}", 1.0),' for name in ranking),
    )


def _split(found: Guesses) -> str:
    log = found.events
    if log.of("split"):
        return 'split="given"'
    return 'split="time"' if log.of("time") and log.of("user") else 'split="ratio"'


def _batch(rows: int) -> int:
    """A power of two of which a quarter of the rows makes four, between 16 and 512."""
    size = 16
    while size < 512 and size * 32 <= rows:
        size *= 2
    return size


def _monitor(labels: dict[str, dict[str, Any]]) -> str:
    for name, rule in labels.items():
        if rule.get("kind") != "value" and "always" not in rule:
            return f"{name}/auc"
    return ""


STATISTICS = "StatisticsConfig(keys=(), history=False)"  # of rows without users
CONFIG = '''"""A proposal of `prepare --inspect`; schema.toml beside it says what the files hold."""

from pathlib import Path
from typing import Any

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import {configs}
from mtl_jax.nn.config import ModelConfig
from mtl_jax.serve.config import RankConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """One task per label of schema.toml; any field can be overridden by --set."""
    return Config(
        tasks=(
            {tasks}
        ),
        data=DataConfig(
            source="tables",
            folder="{folder}",
            schema=str(Path(__file__).parent / "schema.toml"),
            template="{template}",
            {split},{statistics}
        ),
        encoder=EncoderChoice("{encoder}"),{reads}
        batch=BatchConfig(size={size}, history=30, negatives=-1),
        model=ModelConfig(
            width=48,
            user_layers=0,
            dropout=0.2,{ids}
        ),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1, table_decay=0.5),
        train=TrainConfig(epochs=8, monitor="{monitor}", patience=3),
        # what counts when items are recommended{kept}
        rank=RankConfig(
            weights=(
                {rank}
            ),{again}
        ),
    )
'''
