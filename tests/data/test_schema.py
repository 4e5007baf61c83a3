import json

from mtl_jax.data.schema import Categorical, Label, Schema, StatisticColumn

SCHEMA = Schema(
    n_users=3,
    n_items=5,
    labels=(Label("click", "binary"), Label("rating", "value", 1.0, 5.0)),
    positive="click",
    category="genre",
    item_categorical=(Categorical("genre", 7), Categorical("brand", 3)),
    user_categorical=(Categorical("gender", 3),),
    context=(Categorical("device", 4),),
    n_tags=9,
    tag_width=2,
    item_dense=("price", "price.missing"),
    user_dense=(),
    statistics=(
        StatisticColumn("user.click.rate", "user"),
        StatisticColumn("item.click.rate", "item"),
        StatisticColumn("user.log_count", "user"),
    ),
    history_types=13,
    history_values=("dwell",),
)


def test_json_round_trip() -> None:
    assert Schema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA


def test_groups_and_classes() -> None:
    assert SCHEMA.statistic_indices("user") == (0, 2)
    assert SCHEMA.statistic_indices("item") == (1,)
    assert SCHEMA.statistic_indices("cross") == ()
    assert SCHEMA.n_categories == 7
    assert SCHEMA.label("rating").high == 5.0
