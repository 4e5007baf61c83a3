"""Chinese reviews: praise or complaint, by a Chinese BERT whose top layers train.

The set: 7,766 reviews of hotels (mean 129 characters, 68.5 % praise) and 11,987 of meals brought
home (25 characters, 33.4 %); one has no text, seven texts come twice.

It needs an encoder that knows Chinese, and none comes with this project: `--set=encoder.folder=`
names a local Hugging Face folder, such as a copy of `bert-base-chinese`, with config.json,
model.safetensors, and vocab.txt or tokenizer.json (and tokenizer_config.json where there is one).
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig


def get_config() -> Config:
    """`--set=data.folder=` names the reviews' folder, `--set=encoder.folder=` the encoder's."""
    return Config(
        tasks=(TaskSpec("sentiment", "binary", "sentiment"),),
        data=DataConfig(
            source="zh_reviews",
            template="{review}",
            split="ratio",
            stratify="sentiment",
            statistics=StatisticsConfig(keys=(), history=False),
        ),
        encoder=EncoderChoice("bert-base-chinese", train_layers=2, pooling="cls"),
        batch=BatchConfig(size=64, history=1),
        model=ModelConfig(
            width=64, item_id=False, user_id=False, user_layers=0, target_attention=False
        ),
        optim=OptimConfig(learning_rate=1e-3, warmup=200),
        train=TrainConfig(epochs=2, monitor="sentiment/auc"),
    )
