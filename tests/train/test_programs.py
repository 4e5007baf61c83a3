"""Steps compiled ahead of time, by a thread."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtl_jax.train.programs as programs_module
from mtl_jax.train.mesh import make_mesh, put_batch, replicated
from mtl_jax.train.preemption import Preempted, Preemption
from mtl_jax.train.programs import Programs

pytestmark = pytest.mark.usefixtures("quick_compilation")


def programs(step):
    mesh = make_mesh(1)
    state = {"w": jax.device_put(jnp.arange(3.0), replicated(mesh))}
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    return Programs(step, mesh, like), state


def batch(items):
    return {"items/id": np.ones((1, 1, items), np.int64), "uniq/user": np.ones((1, 3), np.float32)}


def test_one_program_a_shape_and_it_takes_what_the_loop_gives_it():
    traced = []

    def step(state, b):
        traced.append(b["items/id"].shape)
        return {"w": state["w"] + b["items/id"].sum()}, {"seen": b["uniq/user"].sum()}

    made, state = programs(step)
    made.ahead(batch(4)).result()
    assert traced == [(1, 1, 4)]
    assert made.seconds.keys() == {tuple(sorted((k, v.shape) for k, v in batch(4).items()))}
    for items in (4, 5, 4, 5):
        program = made.of(batch(items), Preemption())
        state, metrics = program(state, put_batch(made.mesh, batch(items)))
    assert traced == [(1, 1, 4), (1, 1, 5)]
    np.testing.assert_array_equal(state["w"], np.arange(3) + 18)
    assert metrics["seen"] == 3


def test_what_compiling_leaves_in_pieces_is_given_back(monkeypatch):
    called = []
    monkeypatch.setattr(programs_module, "give_back_pieces", lambda: called.append("pieces"))
    monkeypatch.setattr(programs_module, "give_back_large", lambda size: called.append("large"))
    made, _ = programs(lambda state, b: (state, {"seen": b["uniq/user"].sum()}))
    made.ahead(batch(4)).result()
    assert called == ["pieces", "large"] * (jax.default_backend() == "cpu")


def test_what_the_compiler_says_reaches_the_loop():
    def step(state, b):
        raise ValueError("no such thing")

    made, _ = programs(step)
    made.ahead(batch(4))
    with pytest.raises(ValueError, match="no such thing"):
        made.of(batch(4), Preemption())


def test_a_signal_is_answered_while_it_compiles():
    go = threading.Event()

    def step(state, b):
        go.wait()
        return state, {}

    made, _ = programs(step)
    made.ahead(batch(4))
    with Preemption() as preemption:
        preemption._event.set()
        with pytest.raises(Preempted):
            made.of(batch(4), preemption)
    go.set()
    assert made.of(batch(4), Preemption())
