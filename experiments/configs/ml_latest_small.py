"""MovieLens latest-small: rating, like and next item in one model, from titles and genres.

The set: 100,836 ratings (half stars, mean 3.50; 48.2 % are 4 or more), 610 users, 9,742 movies of
which 9,724 are rated. Users' tags are left out: see `mtl_jax/data/sources/movielens_later.py`.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `ratings.csv` and `movies.csv`."""
    return Config(
        tasks=(
            TaskSpec("rating", "regression", "rating", low=0.5, high=5.0),
            TaskSpec("like", "binary", "like"),
            TaskSpec("next_item", "retrieval", "like", weight=0.2),
        ),
        data=DataConfig(source="ml_latest", template="{title}"),
        encoder=EncoderChoice("minilm"),
        batch=BatchConfig(size=512, history=30, negatives=1024),
        model=ModelConfig(width=48, user_layers=0, dropout=0.2),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1, table_decay=0.5),
        train=TrainConfig(epochs=4, monitor="like/auc", patience=3),
    )
