"""Amazon Scientific: the next item, from texts; the items' category beside it.

The set: 58,492 interactions of 8,317 users with 4,344 items, at least five of each, in order but
without times; title (mean 13 words), description (91), brand, categories. Each user's last item is
test, the one before it valid. A position stands for the time, so what came before a row is
known within its user only: statistics are the user's.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.tasks.three_part import three_part
from mtl_jax.train.config import OptimConfig, TrainConfig

CATEGORIES = 26  # second level, 0 = unknown included


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `Scientific.inter.json`."""
    return Config(
        tasks=three_part(
            TaskSpec("next_item", "retrieval", "interaction"),
            lam=0.1,
            mu=0.1,
            categories=CATEGORIES,
        ),
        data=DataConfig(
            source="amazon_scientific",
            template="{title} {description}",
            split="leave_last_out",
            statistics=StatisticsConfig(keys=("user",), history=False, recency="off"),
        ),
        encoder=EncoderChoice("minilm", centre=True),
        batch=BatchConfig(size=512, history=20, negatives=-1),
        model=ModelConfig(width=64, user_id=False, user_layers=1, user_heads=2, dropout=0.3),
        optim=OptimConfig(learning_rate=1e-3, decay=0.1, table_decay=0.5),
        train=TrainConfig(epochs=8, monitor="next_item/ndcg@10", patience=2),
    )
