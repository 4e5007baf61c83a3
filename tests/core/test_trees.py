import jax.numpy as jnp
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import check_rules, count, first_match, map_by_path, paths

TREE = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "b": [jnp.ones(4), jnp.ones(())]}


def test_paths_join_keys_and_positions():
    assert paths(TREE) == ["a/bias", "a/kernel", "b/0", "b/1"]


def test_map_by_path_gives_each_leaf_its_path():
    assert map_by_path(lambda p, x: (p, x.shape), TREE)["a"]["kernel"] == ("a/kernel", (2, 3))


def test_first_match_wins_and_default_else():
    rules = [("^a/k", 1), ("^a/", 2)]
    assert first_match(rules, "a/kernel") == 1
    assert first_match(rules, "a/bias") == 2
    assert first_match(rules, "b/0", "none") == "none"


def test_a_rule_that_matches_nothing_is_refused():
    check_rules([("bias$", 1.0)], paths(TREE), "optim.rates")
    with pytest.raises(UserError, match=r"optim\.rates: the pattern 'encodr' matches no parameter"):
        check_rules([("bias$", 1.0), ("encodr", 0.1)], paths(TREE), "optim.rates")


def test_count_is_of_scalars():
    assert count(TREE) == 6 + 3 + 4 + 1
