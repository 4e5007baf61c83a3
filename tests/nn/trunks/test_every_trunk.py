"""What all trunks have in common: names, gradients, shards, dtypes, the protocol."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trunk_cases import FAST, NAMES, TASKS, B, S, Z, case, config, drawn, forward, shapes_of

from mtl_jax.core.errors import UserError
from mtl_jax.core.trees import paths
from mtl_jax.nn.towers import GATES, PENALTIES
from mtl_jax.nn.trunks import TRUNKS, last_shared
from mtl_jax.tasks.task import loss_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")
# Compiling forward and backward of every trunk takes minutes: the others are for `make soak`; each
# has its own tests against numpy beside this file.
LATER = ("single_task", "omoe", "cgc", "cross_stitch", "mtan", "adatt")
SOON = ("shared_bottom", "mmoe", "dselect_k", "stem")


def some(soon):
    """Every trunk; those not in `soon` in `make soak` only."""
    marked = [t if t in soon else pytest.param(t, marks=pytest.mark.soak) for t in TRUNKS]
    return pytest.mark.parametrize("trunk", marked)


EVERY = some([t for t in TRUNKS if t not in LATER])
FEW = some(SOON)
PENALISED = {"dselect_k": set(NAMES), "aitm": {"purchase"}}
NO_GATES = {"single_task", "shared_bottom", "cross_stitch", "mtan", "esmm", "classifier_chain"}


def owner(path):
    """The task whose own the parameter is; "" for shared ones."""
    parts = path.split("/")
    if parts[0] != "trunk":
        return ""
    return next((p.removeprefix("task_") for p in parts if p.startswith("task_")), "")


@EVERY
def test_outputs_are_finite_of_the_right_shape_and_say_what_the_trunk_says_beside(trunk):
    found = case(trunk)
    for out in (found.out, found.trained):
        assert set(out) == {*NAMES, PENALTIES, GATES}
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(out))
        for task in NAMES:
            assert out[task].shape == ((S, B, 3) if task == "kind" else (S, B))
            assert out[task].dtype == np.float32
        assert (not out[GATES]) == (trunk in NO_GATES)
        for g in out[GATES].values():
            assert g.shape[:2] == (S, B)
            assert g.dtype == np.float32
            assert (g >= 0).all()
            if trunk != "dselect_k":  # whose third code of two bits names no expert
                np.testing.assert_allclose(g.sum(-1), 1.0, rtol=1e-5)
    assert found.out[PENALTIES] == {}
    assert set(found.trained[PENALTIES]) == PENALISED.get(trunk, set())
    assert all(x.shape == (S,) for x in found.trained[PENALTIES].values())


@EVERY
def test_what_is_named_a_tasks_own_is_reached_by_its_loss_alone_and_all_else_is_shared(trunk):
    found = case(trunk)
    for path, tasks in found.reached().items():
        if not path.startswith("trunk/"):
            continue
        if owner(path):
            # softmax over two scores: a part that both share has no gradient
            assert tasks == {owner(path)} or (not tasks and "key/bias" in path), path
        else:
            assert len(tasks) > 1, path


@EVERY
def test_the_last_shared_layer_is_reached_by_every_task(trunk):
    found = case(trunk)
    pattern = last_shared(found.config)
    if trunk == "single_task":
        assert pattern == ""
        return
    reach = {f"heads/{p}": tasks for p, tasks in found.reached().items()}
    named = [p for p in reach if re.search(pattern, p)]
    assert any(p.endswith("/kernel") for p in named)
    assert any("norm_" in p and p.endswith("/scale") for p in named)
    assert all(reach[p] == set(NAMES) for p in named)


def test_a_bottom_without_layers_shares_none_and_an_unknown_trunk_is_refused():
    assert last_shared(config("shared_bottom", trunk_widths=())) == ""
    with pytest.raises(UserError, match=r"unknown trunk 'mmoee'\. Did you mean 'mmoe'"):
        last_shared(config("mmoee"))
    with pytest.raises(UserError, match="unknown trunk 'mmoee'"):
        shapes_of(config("mmoee"))


@FEW
def test_norms_may_be_left_out_and_dropout_and_bfloat16_do_what_they_say(trunk):
    assert not [p for p in paths(shapes_of(config(trunk, trunk_norm=False))) if "norm" in p]
    c = config(trunk, dtype="bfloat16", dropout=0.3)
    params = drawn(c)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))

    def loss(p, deterministic):
        out = forward(c, p, Z, deterministic)
        batch = {f"mask/{t}": jnp.ones((S, B)) for t in NAMES}
        batch |= {f"label/{t}": jnp.ones((S, B)) for t in NAMES}
        return jnp.sum(loss_sums(TASKS, out, batch)[0]), out

    def run(p):
        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(p, False)
        return out, grads, loss(p, True)[1]

    dropped, grads, plain = jax.jit(run, compiler_options=FAST)(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((dropped, grads, plain)))
    for task in NAMES:
        assert plain[task].dtype == np.float32
        assert np.abs(dropped[task] - plain[task]).max() > 1e-3, "nothing is dropped"
        near = np.abs(plain[task] - case(trunk).out[task]).max()
        assert 0 < near < 0.15, "near float32 and not equal to it"


@EVERY
def test_heads_read_features_of_the_compute_dtype(trunk):
    seen = {}

    def head(task):
        def apply(x):
            seen[task] = x.dtype
            return x[:, 0].astype(jnp.float32)

        return apply

    # a norm would hide what dtype the layers have
    module = TRUNKS[trunk](config(trunk, dtype="bfloat16", trunk_norm=False))
    heads, key = {t: head(t) for t in NAMES}, jax.random.PRNGKey(0)
    jax.eval_shape(lambda: module.init({"params": key, "dropout": key}, Z[0], heads, True))
    assert seen == dict.fromkeys(NAMES, jnp.bfloat16)
