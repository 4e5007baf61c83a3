"""Tasks that want different things of one narrow representation: to study multi-task learning.

The generated shop at conflict 1, without text and statistics: purchase and rating follow a taste at
right angles to the one that click and log_dwell follow (`mtl_jax.data.world_effects`). Taste has to
be learned by ids (beside profile, category, brand and price), four numbers a user and four an item,
and one trunk of four units is all that the heads read. `--set=data.world.conflict=0` is the same
shop in peace.

Measured while writing it (60,000 events, valid days, train.seed 0, one run each): AUC of click and
purchase, together / each trained alone (the other tasks at weight 0), was .687 / .711 and .687 /
.689 at conflict 0, .669 / .705 and .577 / .606 at conflict 1. The cosine of click's and purchase's
gradients by towers, trunk and id tables, over 12,288 training rows, mean of eight looks during
training: .29 at conflict 0 and .05 at 1; with train.seed 1, .50 and .19. Ceilings are .83 and .80
(AUC): so narrow a model is far below. What balancing does here: docs/multi-task.md.
"""

from mtl_jax.adapt.config import EncoderChoice
from mtl_jax.config import Config
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.data.batch import BatchConfig
from mtl_jax.data.config import DataConfig, StatisticsConfig, WorldConfig
from mtl_jax.data.world_catalogue import TEST_FROM, VALID_FROM
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train.config import OptimConfig, TrainConfig

TASKS = (
    TaskSpec("click", "binary", "click"),
    TaskSpec("purchase", "binary", "purchase"),
    TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
    TaskSpec("log_dwell", "regression", "log_dwell"),
)


def get_config() -> Config:
    """Four tasks over four numbers of a user and four of an item."""
    return Config(
        tasks=TASKS,
        data=DataConfig(
            source="world",
            world=WorldConfig(events=60_000, seed=0, conflict=1.0),
            valid_from=VALID_FROM,
            test_from=TEST_FROM,
            statistics=StatisticsConfig(keys=(), history=False),
        ),
        encoder=EncoderChoice(""),
        batch=BatchConfig(size=512, history=1),
        model=ModelConfig(
            width=4,
            id_dropout=0.0,
            user_layers=0,
            user_heads=1,
            target_attention=False,
            dropout=0.0,
            trunk_widths=(4,),
            trunk_norm=False,
            head_width=0,
            wide=False,
        ),
        optim=OptimConfig(learning_rate=2e-2, decay=0.0, table_decay=0.1),
        train=TrainConfig(epochs=8),
    )
