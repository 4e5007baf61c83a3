"""The embedded default: the main job on the generated shop, five tasks in one model.

`--set=data.world.events=200000` makes the shop larger.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig, WorldConfig
from mtl_jax.data.world_catalogue import TEST_FROM, VALID_FROM
from mtl_jax.data.world_words import CATEGORIES
from mtl_jax.nn.config import ModelConfig
from mtl_jax.serve.config import RankConfig
from mtl_jax.tasks.three_part import three_part
from mtl_jax.train.config import OptimConfig, TrainConfig

# A task's loss is a mean over its labelled rows, so a rare label's rows weigh more each; at full
# weight the few ratings are memorised before the clicks are learned (docs/results.md).
TASKS = (
    TaskSpec("click", "binary", "click"),
    TaskSpec("purchase", "binary", "purchase", weight=0.5),
    TaskSpec("rating", "regression", "rating", low=1.0, high=5.0, weight=0.3),
    TaskSpec("log_dwell", "regression", "log_dwell", weight=0.7),
    TaskSpec("next_item", "retrieval", "click", weight=0.2),
)


def get_config() -> Config:
    """task + 0.1 content + 0.2 interest, on frozen MiniLM vectors."""
    return Config(
        tasks=three_part(*TASKS, lam=0.1, mu=0.2, categories=len(CATEGORIES) + 1),
        data=DataConfig(
            source="world",
            world=WorldConfig(events=30_000, seed=0),
            template="{title}. {description}",
            max_tokens=64,
            valid_from=VALID_FROM,
            test_from=TEST_FROM,
            history="all",
            statistics=StatisticsConfig(
                keys=("user", "item", "category", "brand", "user*category", "user*brand"),
                history=False,
            ),
        ),
        encoder=EncoderChoice("minilm", centre=True),
        batch=BatchConfig(size=256, history=160, negatives=-1),
        model=ModelConfig(
            width=48,
            user_layers=0,
            attended=32,
            target_attention=False,
            ridge_heads=4,
            dropout=0.2,
            text_dropout=0.1,
        ),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1, table_decay=4.0),
        train=TrainConfig(epochs=12, monitor="click/auc", patience=3),
        rank=RankConfig(weights=(("click", 1.0), ("purchase", 1.0), ("next_item", 1.0))),
    )
