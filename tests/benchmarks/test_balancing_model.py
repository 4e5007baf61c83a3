"""The JAX and the torch recommender are one model on the same numbers; what the floor counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import balancing_floor as floor
from benchmarks.balancing import asks, choose
from benchmarks.balancing_data import BOTTOM, HEAD, WIDTH, World, batches, tables, weights
from benchmarks.balancing_model import capacity, model_of, nest, to_step
from mtl_jax.tasks.task import loss_sums

pytestmark = pytest.mark.usefixtures("quick_compilation")
WORLD = World(tasks=3, rows=400, batch=32)
KEY = jax.random.PRNGKey(0)


def losses_and_gradient():
    """Losses [T] of batch 0, gradient of their sum by bottom kernel 0 and by user table."""
    model, raw = model_of(WORLD), batches(WORLD)
    batch = to_step(raw[0], WORLD, capacity(raw))
    part = {k: v[0] for k, v in batch.items() if not k.startswith("uniq/")}

    def f(params, values):
        rep = model.shared(params, model.gather(values, batch), part, KEY, True)
        outputs = model.predict(params, rep, part, KEY, True)
        losses = loss_sums(model.tasks, outputs, part)[0] / WORLD.batch
        return losses.sum(), losses

    values = jax.tree.map(jnp.asarray, tables(WORLD))
    (_, losses), grads = jax.value_and_grad(f, (0, 1), has_aux=True)(nest(weights(WORLD)), values)
    return losses, grads[0]["bottom"]["0"]["kernel"], grads[1]["user"]


@pytest.mark.parametrize("sparse", [False, True])
def test_torch_has_the_same_losses_and_gradients(sparse):
    torch = pytest.importorskip("torch", reason="torch is in the extras dev and bench")
    from benchmarks.balancing_torch import Recommender, load, to_torch

    model = Recommender(WORLD, sparse)
    load(model, weights(WORLD), tables(WORLD))
    found = torch.stack(model(to_torch(batches(WORLD)[0])))
    found.sum().backward()
    losses, kernel, users = losses_and_gradient()
    np.testing.assert_allclose(found.detach().numpy(), losses, rtol=1e-4)
    got = model.encoder.bottom[0].weight.grad.numpy().T
    np.testing.assert_allclose(got, kernel, rtol=1e-3, atol=1e-6)
    table = model.encoder.tables["user"].weight.grad
    table = (table.to_dense() if sparse else table).numpy()
    np.testing.assert_allclose(table, users, rtol=1e-3, atol=1e-6)


def test_rows_by_hand_step_like_sparse_gradients():
    torch = pytest.importorskip("torch", reason="torch is in the extras dev and bench")
    from benchmarks.balancing_torch import Optimisers, Recommender, load, summed, to_torch

    raw = batches(WORLD)[0]
    after = {}
    for name in ("sparse gradients", "rows by hand"):
        model = Recommender(WORLD, sparse=True)
        load(model, weights(WORLD), tables(WORLD))
        summed(model, Optimisers(model))[name](raw, to_torch(raw))
        after[name] = model.state_dict()
    for key, value in after["rows by hand"].items():
        torch.testing.assert_close(value, after["sparse gradients"][key], rtol=1e-4, atol=1e-5)
    moved = after["rows by hand"]["encoder.tables.item.weight"].numpy() != tables(WORLD)["item"]
    assert 0 < moved.any(1).sum() < WORLD.table_rows


def test_the_floor_of_a_step_by_hand():
    one = World(tasks=2, rows=400, batch=32)
    bottom = 2 * 32 * (3 * WIDTH * BOTTOM[0] + BOTTOM[0] * BOTTOM[1])
    heads = 2 * 2 * 32 * (BOTTOM[1] * HEAD + HEAD)
    assert floor.operations(one, "summed") == 3 * (bottom + heads)
    gram = 2 * 3 * 32 * BOTTOM[1]
    assert floor.operations(one, "representation") == 3 * (bottom + heads) + gram
    assert floor.operations(one, "shared") == 5 * bottom + 3 * heads + 6 * bottom / (2 * 32)
    assert floor.seconds(one, "summed", 10, 1e-9, 1e99) == pytest.approx(3 * (bottom + heads))


def test_a_case_brings_the_entries_that_it_needs_and_no_others():
    (plan,) = choose("^representation-T8-nash$", quick=False)
    assert [o.name for o in plan.ours] == ["ew", "representation-nash"]
    assert plan.theirs == []
    (plan,) = choose("^torchjd-T8-200k$", quick=False)
    assert [o.name for o in plan.ours] == ["shared+loader"]
    assert [t.kind for t in plan.theirs] == ["torchjd-shared"]
    assert {p.world.rows for p in choose("", quick=False)} == {20_000, 200_000, 2_000_000}
    (plan,) = choose("^solver-nash", quick=False)
    assert [o.name for o in plan.ours] == ["ew"], "its share is of the summed step"
    assert asks("", "compile-T")
    assert asks("^compile-T16", "compile-T")
    assert not asks("solver", "compile-T")
