import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import Shape
from mtl_jax.data.plan import ROUND, Plan, largest, make_plan, roomy, spread

SAMPLE = [Shape(100, 20, 300, 3), Shape(130, 15, 310, 2)]
BOUND = Shape(1000, 64, 900, 50)


def test_the_common_shape_holds_the_sample_with_room_to_spare():
    plan = make_plan(SAMPLE, BOUND, 1)
    common, bound = plan.shapes
    assert all(common.holds(s) for s in SAMPLE)
    assert (common.table, common.users, common.items) == (3 * ROUND, ROUND, 6 * ROUND)
    assert common.table >= 1.1 * 130
    assert bound == BOUND


def test_a_batch_takes_the_smallest_planned_shape():
    plan = make_plan(SAMPLE, BOUND, 1)
    assert plan.choose(Shape(120, 20, 300, 3)) == plan.shapes[0]
    assert plan.choose(Shape(193, 20, 300, 3)) == plan.shapes[1], "one size too many is enough"
    assert plan.choose(BOUND) == BOUND
    with pytest.raises(UserError, match="the plan ends at"):
        plan.choose(Shape(1001, 1, 1, 1))


def test_one_shape_where_the_bound_is_close():
    bound = Shape(140, 20, 310, 3)
    assert make_plan(SAMPLE, bound, 1) == Plan((bound,))


def test_distinct_rows_are_a_multiple_of_the_shards():
    for shape in make_plan(SAMPLE, Shape(1000, 61, 903, 50), 8).shapes:
        assert shape.users % 8 == shape.items % 8 == 0
    assert spread(Shape(5, 9, 16, 1), 8) == Shape(5, 16, 16, 1)
    assert largest(SAMPLE) == Shape(130, 20, 310, 3)


def test_shapes_of_about_a_size_share_a_program():
    one, two = roomy(Shape(5, 9, 60, 1), 1), roomy(Shape(50, 3, 33, 7), 1)
    assert one == two == Shape(64, 64, 64, 8)
    assert roomy(Shape(65, 1, 1, 0), 3) == Shape(128, 192, 192, 0)
