"""Amazon Musical Instruments: stars, like and helpful votes; items told by their first reviewers.

The set: 10,261 reviews of 900 items by 1,429 users, 2004 to 2014 (median 54 words); no product
titles. The first two reviews of an item (with those of the same day 1,803 in all) are its text and
no rows; 8,458 rows of 1,415 users are left: mean 4.49 stars, 87.8 % are 4 or more, 2,276 have
votes, 74 % of them found helpful by more than half. Why so:
`mtl_jax/data/sources/amazon_reviews.py`. The floors of a random split of all 10,261 reviews (MSE
.867 of the mean, .844 of user and item biases) are of other rows than these.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `Musical_Instruments_5.json`."""
    return Config(
        tasks=(
            TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
            TaskSpec("like", "binary", "like"),
            TaskSpec("helpful", "binary", "helpful", weight=0.3),
        ),
        data=DataConfig(source="amazon_reviews", template="{summaries}. {reviews}", max_tokens=192),
        encoder=EncoderChoice("minilm"),
        batch=BatchConfig(size=256, history=20),
        model=ModelConfig(width=32, user_layers=0, dropout=0.3),
        optim=OptimConfig(learning_rate=1e-3, decay=0.2, table_decay=1.0),
        train=TrainConfig(epochs=8, monitor="rating/rmse", patience=3),
    )
