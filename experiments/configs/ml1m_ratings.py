"""MovieLens-1M as GroupLens gives it: rating, like and next item, with age, gender, occupation.

The set: 1,000,209 ratings (whole stars), 6,040 users, 3,883 movies. The cut of it with plots and
fixed parts is `ml1m.py`.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `ratings.dat`, `movies.dat` and `users.dat`."""
    return Config(
        tasks=(
            TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
            TaskSpec("like", "binary", "like"),
            TaskSpec("next_item", "retrieval", "like", weight=0.2),
        ),
        data=DataConfig(source="ml1m", template="{title}"),
        encoder=EncoderChoice("minilm"),
        batch=BatchConfig(size=1024, history=30, negatives=1024),
        model=ModelConfig(width=64, user_layers=0, dropout=0.1),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1, table_decay=0.5),
        train=TrainConfig(epochs=2, monitor="like/auc", patience=3),
    )
