"""Census-Income (KDD): income above 50,000 dollars and never married, two labels of one person.

The set, as the UCI archive describes it: 199,523 rows of `census-income.data`, 99,762 of
`census-income.test`, 40 columns. One row in ten of the first file is valid, the second is test.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `census-income.data`."""
    return Config(
        tasks=(
            TaskSpec("income_50k", "binary", "income_50k"),
            TaskSpec("never_married", "binary", "never_married"),
        ),
        data=DataConfig(
            source="census",
            template="",
            split="given",
            statistics=StatisticsConfig(keys=(), history=False),
        ),
        encoder=EncoderChoice(""),
        batch=BatchConfig(size=512, history=1),
        model=ModelConfig(
            width=32, item_id=False, user_id=False, user_layers=0, target_attention=False
        ),
        optim=OptimConfig(learning_rate=2e-3, decay=0.1),
        train=TrainConfig(epochs=3, monitor="income_50k/auc", patience=2),
    )
