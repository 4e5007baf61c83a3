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


def test_a_task_mixes_its_own_and_the_shared_experts():
    found = case("cgc")
    p = found.trunk()["level_0"]
    shared, features = each_of(p["shared"]["experts"], Z), {}
    for task in NAMES:
        own = p[f"task_{task}"]
        weights = gate(own, Z)
        features[task] = mixed(weights, [*each_of(own["experts"], Z), *shared])
        np.testing.assert_allclose(found.out[GATES][task], weights, rtol=1e-4, atol=1e-6)
    assert_outputs(found, features)
    assert trunk_size(config("cgc")) == (4 * 2 + 1) * stack_size(DZ) + 4 * DZ * (2 + 1)
