"""MovieLens-100K: rating, like and next item in one model."""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `u.data` or of `ml-100k.inter`."""
    return Config(
        tasks=(
            TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
            TaskSpec("like", "binary", "like"),
            TaskSpec("next_item", "retrieval", "like", weight=0.2),
        ),
        data=DataConfig(
            source="ml100k",
            template="{title}",
            history="all",
            statistics=StatisticsConfig(history=False),
        ),
        encoder=EncoderChoice("minilm", centre=True),
        batch=BatchConfig(size=512, history=100, negatives=-1),
        model=ModelConfig(
            width=48,
            user_layers=0,
            attended=30,
            target_attention=False,
            ridge_heads=4,
            dropout=0.2,
            text_dropout=0.1,
        ),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1, table_decay=4.0),
        train=TrainConfig(epochs=4, monitor="like/auc", patience=3),
    )
