import numpy as np
import pytest
from trunk_cases import (
    DZ,
    NAMES,
    Z,
    assert_outputs,
    case,
    config,
    each_of,
    gate,
    mixed,
    stack_size,
    trunk_size,
)

from mtl_jax.nn.towers import GATES

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_all_tasks_read_one_mixture():
    found = case("omoe")
    p = found.trunk()
    weights = gate(p, Z)
    assert_outputs(found, dict.fromkeys(NAMES, mixed(weights, each_of(p["experts"], Z))))
    for task in NAMES:
        np.testing.assert_allclose(found.out[GATES][task], weights, rtol=1e-4, atol=1e-6)
    assert trunk_size(config("omoe")) == 3 * stack_size(DZ) + DZ * 3
