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
    each_of,
    gate,
    mixed,
    stack_size,
    trunk_size,
)

from mtl_jax.nn.towers import GATES

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_task_reads_all_experts_over_all_projections():
    found = case("stem")
    p = found.trunk()
    e_s = dense(p["shared"]["embed"], Z)
    e = {t: dense(p[f"task_{t}"]["embed"], Z) for t in NAMES}
    every = [f for t in NAMES for f in each_of(p[f"task_{t}"]["experts"], e[t])]
    every += each_of(p["shared"]["experts"], e_s)
    weights = {t: gate(p[f"task_{t}"], e[t] + e_s) for t in NAMES}
    assert_outputs(found, {t: mixed(weights[t], every) for t in NAMES})
    for t in NAMES:
        np.testing.assert_allclose(found.out[GATES][t], weights[t], rtol=1e-4, atol=1e-6)
    sizes = 5 * DZ * 4 + (4 * 2 + 1) * stack_size(4) + 4 * 4 * (4 * 2 + 1)
    assert trunk_size(config("stem")) == sizes


def test_all_forward_but_only_its_own_task_backward():
    found = case("stem")
    for path, tasks in found.reached().items():
        parts = path.split("/")
        if parts[0] == "trunk":
            own = {parts[1].removeprefix("task_")} if parts[1] != "shared" else set(NAMES)
            assert tasks == own, path
