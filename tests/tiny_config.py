"""A run of seconds: 2,000 events of the generated shop, towers eight wide, no text."""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig, WorldConfig
from mtl_jax.data.world_catalogue import TEST_FROM, VALID_FROM
from mtl_jax.data.world_words import CATEGORIES
from mtl_jax.nn.config import ModelConfig
from mtl_jax.tasks.three_part import three_part
from mtl_jax.train.config import OptimConfig, TrainConfig

TASKS = (
    TaskSpec("click", "binary", "click"),
    TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
    TaskSpec("next_item", "retrieval", "click", weight=0.2),
)


def get_config() -> Config:
    return Config(
        tasks=three_part(*TASKS, lam=0.1, mu=0.2, categories=len(CATEGORIES) + 1),
        data=DataConfig(
            source="world",
            world=WorldConfig(events=2000, seed=0),
            valid_from=VALID_FROM,
            test_from=TEST_FROM,
            statistics=StatisticsConfig(keys=("user", "item", "category")),
        ),
        encoder=EncoderChoice(""),
        batch=BatchConfig(size=64, history=4, negatives=8),
        model=ModelConfig(
            width=8,
            user_layers=0,
            user_heads=2,
            target_attention=False,
            trunk_widths=(8,),
            head_width=0,
        ),
        optim=OptimConfig(learning_rate=1e-2, warmup=5),
        train=TrainConfig(
            steps=12,
            eval_every=6,
            eval_batch=512,
            checkpoint_every=4,
            log_every=1,
            monitor="click/auc",
        ),
    )
