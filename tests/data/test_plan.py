from itertools import pairwise

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.batch import Shape
from mtl_jax.data.plan import ROUND, Plan, largest, levels, make_plan, roomy, spread

SAMPLE = [Shape(100, 20, 300, 3), Shape(130, 15, 310, 2)]
BOUND = Shape(1000, 64, 900, 50)


def test_the_common_shape_holds_the_sample_with_room_to_spare():
    plan = make_plan(SAMPLE, BOUND, 1)
    common, *more, bound = plan.shapes
    assert all(common.holds(s) for s in SAMPLE)
    assert (common.table, common.users, common.items) == (3 * ROUND, ROUND, 6 * ROUND)
    assert common.table >= 1.1 * 130
    assert [s.packed for s in more] == [8, 16, 32, 50], "few batches need more texts"
    assert bound == BOUND


def test_a_batch_takes_the_smallest_planned_shape():
    plan = make_plan(SAMPLE, BOUND, 1)
    assert plan.choose(Shape(120, 20, 300, 3)) == plan.shapes[0]
    assert plan.choose(Shape(193, 20, 300, 3)) == BOUND, "one size too many is enough"
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


def test_packed_rows_are_planned_finely_where_they_are_most_of_a_step():
    rng = np.random.default_rng(0)
    packed = rng.normal(300, 20, 64).astype(int).tolist()
    plan = make_plan([Shape(100, 20, 300, n) for n in packed], Shape(1000, 64, 900, 5000), 1, True)
    later = rng.normal(300, 20, 1000).astype(int).tolist()
    chosen = [plan.choose(Shape(100, 20, 300, n)).packed for n in later]
    assert sum(later) / sum(chosen) > 0.965, "about half of 5 % is lost"
    assert len(set(chosen)) <= 9, "each is compiled"
    assert max(chosen) < 450, "none goes to the bound"
    assert plan.shapes[-1] == Shape(1000, 64, 900, 5000)


def test_levels_of_what_never_changes_or_is_small():
    assert levels([7, 7, 7]) == [7]
    assert levels([1, 2, 3])[-1] >= 3
    assert all(b > a for a, b in pairwise(levels([1, 40, 3, 2])))
