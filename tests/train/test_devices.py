"""Eight faked devices against one, in a process of their own."""

import json

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.train.mesh import make_mesh


@pytest.fixture(scope="module")
def both(shared_folder, zygote, tmp_path_factory):
    from worlds import world_data

    folder = tmp_path_factory.mktemp("devices")
    prepared = str(world_data(shared_folder).folder)
    flags = "--xla_force_host_platform_device_count=8"
    process = zygote.run("devices", prepared, str(folder), xla_flags=flags)
    assert process.status == 0, process.output()[-4000:]
    return json.loads((folder / "devices.json").read_text())


def test_losses_agree_over_20_steps(both):
    one, eight = (np.array(both[n]["losses"]) for n in ("1", "8"))
    assert one.shape == eight.shape == (20, 5)
    np.testing.assert_allclose(eight, one, atol=1e-5, rtol=0)
    assert np.abs(one[0] - one[-1]).max() > 0.01, "something was learned"


@pytest.mark.parametrize("level", ["shared"])
def test_the_gramian_is_that_of_the_mean_gradient(both, level):
    """Eight devices have an eighth of the rows each; the mean of their Gramians is another one."""
    one, eight = (both[level][n]["seen"] for n in ("1", "8"))
    assert len(one) == len(eight) == 4
    for a, b in zip(one, eight, strict=True):
        for name in ("weights", "balance/norm"):
            np.testing.assert_allclose(b[name], a[name], rtol=1e-3)
        np.testing.assert_allclose(b["balance/cosine"], a["balance/cosine"], atol=1e-4)
    assert np.ptp(one[-1]["weights"]) > 1e-3


def test_each_device_holds_an_eighth_of_the_batch(both):
    assert both["1"]["device_bytes"] == [both["1"]["batch_bytes"]]
    assert both["8"]["device_bytes"] == [both["8"]["batch_bytes"] // 8] * 8


def test_eight_devices_send_little_but_the_sum_of_the_gradients(both):
    """Of parameters and of the tables' rows that the batch gathered, each summed once; and what the
    retrieval task asks for: its candidates' keys, biases, ids and log q go to every row once, and
    the gradients of the keys and biases are summed once."""
    found = both["8"]
    part, n, d = 7 / 8, 4 * found["candidates"], found["width"]
    gradients = 2 * part * (found["param_bytes"] + found["row_bytes"])
    retrieval = part * n * (d + 3) + 2 * part * n * (d + 1)
    assert gradients + retrieval <= found["sent"] <= 1.2 * (gradients + retrieval)
    assert both["1"]["sent"] == 0


def test_one_compilation_a_planned_shape_and_one_fetch_a_step(both):
    for found in (both["1"], both["8"]):
        assert 1 <= found["compiled"] <= found["planned"] <= 2
        assert found["fetches"] == 20


def test_the_state_lies_on_all_devices_of_the_mesh(both):
    assert both["1"]["state_devices"] == [1]
    assert both["8"]["state_devices"] == [8]


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"train\.mesh=99: there are \d+ devices"):
        make_mesh(99)
