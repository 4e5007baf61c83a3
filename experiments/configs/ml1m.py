"""MovieLens-1M as CoLLM cut it: like."""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig

STATISTICS = StatisticsConfig(
    keys=(
        "user",
        "item",
        "tags",
        "director",
        "star",
        "period",
        "rated",
        "user*tags",
        "user*director",
        "user*star",
        "user*decade",
        "user*rated",
    ),
    train="blocks",
    block_days=7,
    strength=10.0,
    strengths=(
        ("item", 5.0),
        ("user*tags", 5.0),
        ("user*decade", 5.0),
        ("user*rated", 5.0),
        ("user*director", 2.0),
        ("user*star", 2.0),
    ),
    recency="off",
    history_last=400,
    clip=3.0,
)


def get_config() -> Config:
    """`--set=data.folder=` names the folder of `train.parquet`."""
    return Config(
        tasks=(TaskSpec("like", "binary", "like"),),
        data=DataConfig(
            source="ml1m_collm",
            template="{title}. {plot}",
            max_tokens=160,
            split="given",
            statistics=STATISTICS,
        ),
        encoder=EncoderChoice("minilm"),
        batch=BatchConfig(size=256, history=50),
        model=ModelConfig(
            width=32,
            item_id=False,
            user_id=False,
            stats_dropout=False,
            target_attention=False,
            inputs="plain",
            trunk_widths=(64, 64),
            trunk_norm=False,
            trunk_dropout=0.5,
            input_dropout=0.1,
            head_width=0,
        ),
        optim=OptimConfig(
            learning_rate=3e-3,
            rates=(("^towers/", 0.3),),
            decay=0.02,
            decays=(("^towers/", 1.0),),
            beta2=0.99,
            warmup=66,
            final=0.02,
        ),
        train=TrainConfig(epochs=16, eval_part=""),
    )
