"""Methods with a memory, over six steps of four tasks, beside TorchJD and LibMTL.

`libmtl_sequences.json` holds what LibMTL (github.com/median-research-group/LibMTL, 4336804 of
2025-05, float64) returned for these gradients and losses: `agg` is the gradient that its `backward`
left on one shared parameter of six entries, each step one epoch, its learned scales by torch's Adam
at rate .01, FAMO's losses afterwards L * linspace(.9, 1.05, T). To be made anew only if the
gradients or losses change.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jacobians import KEY, close

from mtl_jax import balance
from mtl_jax.balance.gramian import cross, gramian

pytestmark = pytest.mark.usefixtures("quick_compilation")
TOLD = json.loads((Path(__file__).parent / "libmtl_sequences.json").read_text())
J = np.array(TOLD["J"])  # [steps, 3 batches, T, n]
LOSSES = np.array(TOLD["losses"])
T = J.shape[2]


def steps(name, present=None, scale=1.0, **options):
    """Aggregates of every step; two-batch methods move the third batch's gradients."""
    b = balance.get(name, **options)
    like = {"x": jnp.zeros(J.shape[-1])}
    state = b.init(T, like)
    update = jax.jit(b.update)
    # LibMTL's MoDo moves the third of three batches, its SDMGrad the first
    mover, one, other = {"modo": (2, 0, 1), "sdmgrad": (0, 1, 2)}.get(name, (0, 1, 2))
    for k in range(len(J)):
        own = J[k, mover] * scale
        grads = {"x": jnp.asarray(own, jnp.float32)}
        L = jnp.asarray(LOSSES[k], jnp.float32)
        pair = [{"x": jnp.asarray(J[k, h], jnp.float32)} for h in (one, other)]
        there = jnp.ones(T) if present is None else jnp.asarray(present[k], jnp.float32)
        stats = balance.Stats(L, there, jnp.int32(k), gramian(grads), cross(*pair), grads)
        before = state
        found = update(stats, state, jax.random.fold_in(KEY, k))
        state = found.state
        if b.needs == "losses_after":
            after = L * jnp.linspace(0.9, 1.05, T)
            state = update(stats._replace(losses_after=after), state, KEY).state
        direct = found.direction
        whole = np.asarray(found.weights) @ own if direct is None else np.asarray(direct["x"])
        yield found, whole, (before, state)


LIBMTL = [
    ("uw", "UW", {"start": -0.5}),
    ("imtl", "IMTL", {}),
    ("dwa", "DWA", {}),
    ("stch", "STCH", {"form": "log", "mu": 0.5, "warmup_epochs": 1}),
    ("famo", "FAMO", {}),
    ("gradnorm", "GradNorm", {}),
    ("moco", "MoCo", {}),
    ("db_mtl", "DB_MTL", {"beta_sigma": 0.5}),
    ("excess_mtl", "ExcessMTL", {"step_size": 0.1}),
    ("modo", "MoDo", {"gamma": 0.05}),
    ("sdmgrad", "SDMGrad", {}),
]


@pytest.mark.parametrize(("name", "entry", "options"), LIBMTL)
def test_six_steps_as_in_libmtl(name, entry, options):
    expected = TOLD["methods"][entry]["agg"]
    for k, (_, found, _) in enumerate(steps(name, **options)):
        close(found, expected[k], 2e-4)


def torchjd():
    pytest.importorskip("torch", reason="torch is not installed")
    return pytest.importorskip("torchjd", reason="torchjd is not installed")


def tensors(x):
    import torch

    return torch.tensor(np.asarray(x), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "theirs", "options", "their_options"),
    [
        ("pcd", "PCDWeighting", {"beta": 0.9}, {"beta": 0.9}),
        ("modo", "MoDoWeighting", {}, {}),
        ("sdmgrad", "SDMGradWeighting", {}, {"lr": 5.0}),
    ],
)
def test_six_steps_as_in_torchjd(name, theirs, options, their_options):
    torchjd()
    from torchjd import aggregation

    weighting = getattr(aggregation, theirs)(**their_options)
    for k, (update, _, _) in enumerate(steps(name, **options)):
        pair = {"pcd": (0, 0), "modo": (0, 1), "sdmgrad": (1, 2)}[name]
        given = J[k, pair[0]] @ J[k, pair[1]].T
        close(update.weights, weighting(tensors(given)), 2e-4)


def test_excess_mtl_is_torchjds_from_its_second_step_on():
    """TorchJD's first step is not divided by the first risk; with a step of warm-up it is."""
    torchjd()
    from torchjd.aggregation import ExcessMTLWeighting

    weighting = ExcessMTLWeighting(robust_step_size=0.1, n_warmup_steps=1)
    for k, (update, _, _) in enumerate(steps("excess_mtl", step_size=0.1)):
        close(np.asarray(update.weights) / T, weighting(tensors(J[k, 0])), 2e-4)


def test_gradvac_is_torchjds_for_two_tasks():
    """One other task: no order to draw."""
    torchjd()
    from torchjd.aggregation import GradVacWeighting

    weighting, b = GradVacWeighting(), balance.get("gradvac")
    state = b.init(2)
    for k in range(len(J)):
        G = J[k, 0][:2] @ J[k, 0][:2].T
        stats = balance.Stats(jnp.ones(2), jnp.ones(2), jnp.int32(k), jnp.asarray(G, jnp.float32))
        found = b.update(stats, state, KEY)
        state = found.state
        close(found.weights, weighting(tensors(G)), 1e-4)


@pytest.mark.parametrize(
    "name", [n for n, needs in balance.NAMES.items() if n not in ("scheduled", "rlw")]
)
def test_what_an_absent_task_left_is_there_when_it_comes_back(name):
    """Task 1 is away at steps 2 and 3: weight 0, and its entries of the state stay."""
    present = np.ones((len(J), T))
    present[2:4, 1] = 0
    for k, (update, aggregate, states) in enumerate(steps(name, present=present)):
        assert np.isfinite(aggregate).all()
        if k not in (2, 3):
            continue
        assert np.asarray(update.weights)[1] == 0.0
        for old, new in zip(*map(jax.tree.leaves, states), strict=True):
            if np.ndim(new) and new.shape[0] == T:
                np.testing.assert_array_equal(np.asarray(new)[1], np.asarray(old)[1])


@pytest.mark.parametrize("name", ["gradnorm", "excess_mtl", "db_mtl", "moco", "pcd", "gradvac"])
def test_the_scale_of_gradients_is_no_matter_after_several_steps_either(name):
    small = steps(name, scale=2.0**-20)
    for (one, _, _), (other, _, _) in zip(steps(name), small, strict=True):
        weights = np.asarray(other.weights) * (2.0**-20 if name == "moco" else 1.0)
        close(weights, one.weights, 1e-3)


def test_a_task_that_is_seldom_there_keeps_its_weight():
    """ExcessMTL raises weights at every step; a task that was away must not be left behind."""
    b = balance.get("excess_mtl", step_size=0.1)
    state = b.init(2, {"x": jnp.zeros(3)})
    grads = {"x": jnp.ones((2, 3))}
    for k in range(40):
        present = jnp.array([1.0, 1.0 if k % 5 == 0 else 0.0])
        stats = balance.Stats(jnp.ones(2), present, jnp.int32(k), grads=grads)
        state = b.update(stats, state, KEY).state
    stats = stats._replace(present=jnp.ones(2))
    weights = b.update(stats, state, KEY).weights
    assert 0.7 < weights[0] / weights[1] < 1.4


def test_as_optax_is_the_balancer_in_a_chain():
    import optax

    b = balance.get("upgrad")
    tx = optax.chain(balance.as_optax(b, T), optax.sgd(1.0))
    params = {"x": jnp.zeros(J.shape[-1])}
    state = tx.init(params)
    for k, (_, aggregate, _) in enumerate(steps("upgrad")):
        grads = {"x": jnp.asarray(J[k, 0], jnp.float32)}
        updates, state = tx.update(grads, state, params, losses=jnp.asarray(LOSSES[k], jnp.float32))
        close(-np.asarray(updates["x"]), aggregate, 1e-5)


def test_as_optax_keeps_the_state_of_methods_that_remember():
    b = balance.get("db_mtl", beta_sigma=0.5)
    tx = balance.as_optax(b, T)
    state = tx.init({"x": jnp.zeros(J.shape[-1])})
    for k, (_, aggregate, _) in enumerate(steps("db_mtl", beta_sigma=0.5)):
        grads = {"x": jnp.asarray(J[k, 0], jnp.float32)}
        updates, state = tx.update(grads, state, losses=jnp.asarray(LOSSES[k], jnp.float32))
        close(updates["x"], aggregate, 1e-5)


def test_as_optax_refuses_what_it_cannot_do():
    from mtl_jax.core.errors import UserError

    for name, options, match in (
        ("gradvac", {"groups": "layer"}, "knows no groups"),
        ("famo", {}, "after the step"),
    ):
        with pytest.raises(UserError, match=match):
            balance.as_optax(balance.get(name, **options), T)
    tx = balance.as_optax(balance.get("upgrad"), T)
    with pytest.raises(UserError, match="first axis must be the 4 tasks"):
        tx.update({"x": jnp.zeros(6)}, tx.init({"x": jnp.zeros(6)}), losses=jnp.ones(T))
