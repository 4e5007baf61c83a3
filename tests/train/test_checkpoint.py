import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.train.checkpoint import Checkpoints

STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int32(4)}


def abstract(**changes):
    wanted = {k: v for k, v in {**STATE, **changes}.items() if v is not None}
    return jax.eval_shape(lambda: {k: jnp.asarray(v) for k, v in wanted.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    checkpoints = Checkpoints(path)
    for step in (1, 2, 3, 4):
        state = {k: jnp.asarray(v) + step for k, v in STATE.items()}
        checkpoints.save(step, state, {"told": step}, best=min(step, 2))
    checkpoints.wait()
    checkpoints.close()
    return path


def test_state_and_meta_come_back_and_the_best_is_kept(folder):
    checkpoints = Checkpoints(folder)
    assert checkpoints.steps() == [2, 3, 4]
    assert checkpoints.latest() == 4
    assert checkpoints.meta(3) == {"told": 3}
    found = checkpoints.restore(2, abstract())
    np.testing.assert_array_equal(found["w"], STATE["w"] + 2)
    assert found["n"].dtype == jnp.int32
    checkpoints.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"w": np.zeros((2, 4), np.float32)},
        {"w": np.zeros((2, 3), np.float16)},
        {"n": np.float32(0)},
        {"extra": np.zeros(2, np.float32)},
        {"w": None},
    ],
    ids=["shape", "less precision", "another kind", "a leaf more", "a leaf less"],
)
def test_a_state_of_another_form_is_refused_by_name(folder, changes):
    checkpoints = Checkpoints(folder)
    name = next(iter(changes))
    with pytest.raises(UserError, match=rf"{name}.*another --workdir"):
        checkpoints.restore(4, abstract(**changes))
    checkpoints.close()


def test_a_step_that_is_there_is_written_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for told in (1, 2):
        checkpoints.save(5, {"w": jnp.full(2, told)}, {"told": told}, best=-1)
        checkpoints.wait()
    assert checkpoints.steps() == [5]
    assert checkpoints.meta(5) == {"told": 2}
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir: cannot write to .*file/run/checkpoints"):
        Checkpoints(tmp_path / "file" / "run")
