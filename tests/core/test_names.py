import jax
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import choose, nearest
from mtl_jax.core.rng import key_for


def test_the_nearest_name_is_told_or_all_of_them():
    assert nearest("stepz", ["steps", "epochs"]) == "Did you mean 'steps'?"
    assert nearest("qqq", ["steps", "epochs"]) == "Known: epochs, steps."
    assert nearest("x", []) == "Known: none."


def test_choose_refuses_unknown_names():
    assert choose({"adam": 1}, "adam", "optimiser") == 1
    with pytest.raises(UserError, match=r"unknown optimiser 'adm'\. Did you mean 'adam'\?"):
        choose({"adam": 1}, "adm", "optimiser")


def test_keys_depend_on_key_name_and_step_and_on_nothing_else():
    key = jax.random.PRNGKey(0)

    def bits(*args):
        return tuple(np.asarray(key_for(*args)))

    assert bits(key, "dropout", 3) == bits(jax.random.PRNGKey(0), "dropout", 3)
    others = [bits(key, "dropout", 4), bits(key, "drop", 3), bits(jax.random.PRNGKey(1), "a", 3)]
    assert len({bits(key, "dropout", 3), *others}) == 4
    assert bits(key, "dropout", 0) == bits(key, "dropout")
    inside = jax.jit(lambda step: key_for(key, "dropout", step))(3)
    assert tuple(np.asarray(inside)) == bits(key, "dropout", 3)
