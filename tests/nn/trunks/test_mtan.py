import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    dense,
    gelu,
    sigmoid,
    stack,
    stack_size,
    trunk_size,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_each_task_masks_the_shared_blocks():
    found = case("mtan")
    p, features = found.trunk(), {}
    u0 = stack(p["block_0_in"], Z)
    p0 = stack(p["block_0_out"], u0)
    u1 = stack(p["block_1_in"], p0)
    p1 = stack(p["block_1_out"], u1)
    for task in NAMES:
        own = p[f"task_{task}"]
        first = p0 * sigmoid(dense(own["mask_0"], gelu(dense(own["reduce_0"], u0))))
        told = np.concatenate([u1, gelu(dense(p["carry_1"], first))], -1)
        mask = sigmoid(dense(own["mask_1"], gelu(dense(own["reduce_1"], told))))
        features[task] = p1 * mask
    assert_outputs(found, features)


def test_parameters_count_by_formula():
    blocks = stack_size(DZ, (4, 4)) + stack_size(4, (3, 3))
    carry = 4 * 3 + 3
    own = 2 * (4 * 4 + 4) + (6 * 3 + 3) + (3 * 3 + 3)
    assert trunk_size(config("mtan")) == blocks + carry + 4 * own
