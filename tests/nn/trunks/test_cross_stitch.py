import jax
import numpy as np
import pytest
from trunk_cases import DZ, NAMES, B, Z, assert_outputs, case, config, stack, stack_size, trunk_size

from mtl_jax.nn.trunks.cross_stitch import Stitch

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_towers_are_mixed_after_each_layer():
    found = case("cross_stitch")
    p, x = found.trunk(), [Z] * 4
    for n in range(2):
        towers = p[f"towers_{n}"]
        y = [stack(jax.tree.map(lambda v, t=t: v[t], towers), x[t]) for t in range(4)]
        alpha = p[f"stitch_{n}"]["scale"]
        x = [sum(alpha[t, u] * y[u] for u in range(4)) for t in range(4)]
    assert_outputs(found, dict(zip(NAMES, x, strict=True)))
    sizes = 4 * (stack_size(DZ, (4,)) + stack_size(4, (3,)))
    assert trunk_size(config("cross_stitch")) == sizes + 2 * 16


@pytest.mark.parametrize("n", [1, 3])
def test_a_stitch_starts_at_nine_tenths_of_its_own(n):
    x = np.eye(n, dtype=np.float32)[:, None] * np.ones((n, B, n), np.float32)
    found = Stitch().init_with_output(jax.random.PRNGKey(0), x)[0][:, 0]
    own = 0.9 if n > 1 else 1.0
    np.testing.assert_allclose(np.diag(found), own, rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)
