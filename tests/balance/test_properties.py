"""What holds for every balancer, or for those that claim it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import KEY, close, jacobian, run

from mtl_jax import balance
from mtl_jax.balance.gramian import whole

pytestmark = pytest.mark.usefixtures("quick_compilation")
GRAM = [n for n, needs in balance.NAMES.items() if needs == "gram"]
RANDOM = ("pcgrad", "gradvac", "rlw", "graddrop")  # the key decides
NON_CONFLICTING = (
    ("upgrad", {}),
    ("dualproj", {}),
    ("mgda", {}),
    ("cagrad", {"c": 1.0}),
    ("cagrad", {"c": 1.5}),
    ("nash", {}),
    ("fairgrad", {"alpha": 2.0}),
)
# name, options, degree: J times s gives the update times s^degree
HOMOGENEITY = [
    ("ew", {}, 1),
    ("upgrad", {}, 1),
    ("dualproj", {}, 1),
    ("mgda", {}, 1),
    ("mgda", {"normalise": "l2"}, 0),
    ("pcgrad", {}, 1),
    ("gradvac", {}, 1),
    ("cagrad", {}, 1),
    ("nash", {}, 0),
    ("nash", {"max_norm": 0.0}, 0),
    ("fairgrad", {"alpha": 1.0}, 0),
    ("fairgrad", {"alpha": 2.0}, -1 / 3),
    ("fairgrad", {"alpha": 0.5}, 1 / 3),
    ("imtl_g", {}, 1),
    ("config", {}, 1),
    ("aligned_mtl", {}, 1),
    ("pcd", {}, 1),
    ("gradnorm", {}, 1),
    ("db_mtl", {}, 1),
    ("moco", {}, 0),
    ("sdmgrad", {}, 1),
    ("excess_mtl", {}, 1),
    ("graddrop", {}, 1),
]


@pytest.mark.parametrize(("name", "options", "degree"), HOMOGENEITY)
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**-10, 2.0**20])
def test_homogeneity_is_of_the_tabled_degree(name, options, degree, scale):
    J = jacobian("conflict", 5, 3)
    _, one = run(name, J, [0.5, 1.0, 2.0, 0.7, 0.3], **options)
    _, scaled = run(
        name, np.float32(J * scale).astype(np.float64), [0.5, 1.0, 2.0, 0.7, 0.3], **options
    )
    close(scaled, one * scale**degree, 1e-3)


@pytest.mark.parametrize("name", [n for n in balance.NAMES if n not in ("scheduled", *RANDOM)])
def test_the_order_of_tasks_does_not_matter(name):
    J, losses = jacobian("conflict", 5, 4), np.array([0.5, 1.0, 2.0, 0.7, 0.3])
    order = np.array([0, 3, 1, 4, 2])  # pcd's primary task stays the first
    _, one = run(name, J, losses)
    _, other = run(name, J[order], losses[order])
    close(other, one, 1e-3)


@pytest.mark.parametrize(("name", "options"), NON_CONFLICTING)
@pytest.mark.parametrize("n_tasks", [2, 3, 8, 32])
def test_no_task_is_worse_off(name, options, n_tasks):
    for seed, kind in itertools.product(range(3), ("random", "conflict")):
        J = jacobian(kind, n_tasks, seed)
        _, g = run(name, J, **options)
        d = np.linalg.norm(J, axis=1)
        assert (J @ g / d).min() >= -1e-4 * np.linalg.norm(g)


@pytest.mark.parametrize("name", GRAM)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_gramian_gives_finite_weights(name, data):
    """T = 4 with dependent, zero, huge and tiny rows."""
    draw = data.draw
    row = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    J = np.array(draw(st.lists(row, min_size=4, max_size=4)), float)
    exponents = draw(st.lists(st.integers(-3, 3), min_size=4, max_size=4))
    present = np.array(draw(st.lists(st.booleans(), min_size=4, max_size=4)), float)
    J *= 10.0 ** np.array(exponents)[:, None]
    found, g = run(name, J, [0.5, 1.0, 2.0, 0.7], present)
    assert np.isfinite(g).all()
    assert (np.asarray(found.weights)[present == 0] == 0).all()


@pytest.mark.parametrize("name", [n for n in balance.NAMES if n != "scheduled"])
def test_one_task_alone_goes_along_its_gradient(name):
    J = jacobian("random", 1, 5)
    options = {"leak": 1.0} if name == "graddrop" else {}
    found, g = run(name, J, [0.8], **options)
    cosine = (g @ J[0]) / np.linalg.norm(g) / np.linalg.norm(J)
    assert cosine > 1 - 1e-5
    assert np.isfinite(np.asarray(found.weights)).all()


@pytest.mark.parametrize("name", [n for n in GRAM if n != "gradnorm"])  # its come from its state
def test_a_gradient_that_is_not_a_number_is_not_hidden(name):
    J = jacobian("random", 4, 6)
    J[2] = np.nan
    found, _ = run(name, J)
    assert not np.isfinite(np.asarray(found.weights)).all()


@pytest.mark.parametrize(
    "name", ["uw", "mgda", "upgrad", "cagrad", "nash", "gradvac", "moco", "pcd"]
)
def test_balancers_run_under_vmap_as_alone(name):
    """One of each kind of solver and state; T = 3, three lanes."""
    b = balance.get(name)
    Js = [jacobian("conflict", 3, s) for s in range(3)]
    losses = np.array([1.0, 0.5, 2.0])

    def one(J):
        L = jnp.asarray(losses, jnp.float32)
        stats = balance.Stats(L, jnp.ones(3), jnp.int32(0), J @ J.T, None, {"x": J})
        return b.update(stats, b.init(3, {"x": J[0]}), KEY).weights

    many = jax.jit(jax.vmap(one))(jnp.asarray(np.stack(Js), jnp.float32))
    for lane, J in enumerate(Js):
        np.testing.assert_allclose(
            many[lane], run(name, J, losses)[0].weights, rtol=2e-3, atol=1e-5
        )


def test_graddrop_keeps_one_sign_of_every_entry():
    J = jacobian("random", 4, 7)
    up, down = np.where(J > 0, J, 0).sum(0), np.where(J < 0, J, 0).sum(0)
    shares = []
    for n in range(200):
        _, g = run("graddrop", J, key=jax.random.PRNGKey(n))
        assert (np.isclose(g, up, atol=1e-5) | np.isclose(g, down, atol=1e-5)).all()
        shares.append(np.isclose(g, up, atol=1e-5))
    chance = up / (up - down)
    assert np.abs(np.mean(shares, 0) - chance).max() < 0.15


# Identities


@pytest.mark.parametrize("seed", range(3))
def test_nash_is_fairgrad_of_alpha_1(seed):
    J = jacobian("random", 5, seed, 1.0, 100.0)
    close(run("nash", J, max_norm=0.0)[1], run("fairgrad", J, alpha=1.0)[1])


@pytest.mark.parametrize("seed", range(3))
def test_upgrad_is_half_of_pcgrad_for_two_conflicting_tasks(seed):
    J = jacobian("random", 2, seed)
    J[1] -= (1.0 + J[0] @ J[1]) / (J[0] @ J[0]) * J[0]
    assert J[0] @ J[1] < 0
    close(2.0 * run("upgrad", J)[1], run("pcgrad", J)[1])


def test_gradvac_of_targets_0_is_pcgrad():
    for seed in range(5):
        J = jacobian("conflict", 2, seed)
        close(run("gradvac", J)[1], run("pcgrad", J)[1])
    J = jacobian("conflict", 6, 1)  # equal keys draw equal orders, and all targets are 0 at first
    close(run("gradvac", J, beta=0.0)[1], run("pcgrad", J)[1], 1e-3)


def test_the_gramian_of_groups_adds_up():
    J = jacobian("conflict", 4, 2)
    parts = jnp.asarray(np.stack([J[:, :5] @ J[:, :5].T, J[:, 5:] @ J[:, 5:].T]), jnp.float32)
    close(whole(parts), J @ J.T)
    for name in ("imtl", "gradnorm"):
        b = balance.get(name)
        stats = balance.Stats(jnp.ones(4), jnp.ones(4), jnp.int32(0), parts)
        found = jax.jit(b.update)(stats, b.init(4), KEY)
        close(np.asarray(found.weights) @ J, run(name, J)[1], 1e-3)


# Methods are not each other


# In direction, for any J: two names of one method, a factor apart, or one in the other's limit.
COINCIDE = (
    {"ew", "fixed"},
    {"uw", "uncertainty"},
    {"nash", "fairgrad"},  # alpha is 1
    {"uw", "imtl_l"},  # both follow log L by Adam, at rates that differ later only
    {"uncertainty", "imtl_l"},
    {"imtl_g", "config"},  # C u = 1; they differ in length
    {"imtl_g", "imtl"},
    {"imtl", "config"},
)


def test_methods_differ_on_four_tasks_after_several_steps():
    """Unequal rates of falling losses, T = 5; directions, since some differ by a factor only."""
    rng = np.random.default_rng(0)
    names = [n for n in balance.NAMES if n != "scheduled"]
    states, found = dict.fromkeys(names), {}
    losses = np.array([1.0, 2.0, 0.5, 3.0, 0.8])
    for step in range(4):
        J = jacobian("conflict", 5, step, spread=10.0) + 0.3 * rng.normal(size=(1, 13))
        losses = losses * np.array([0.9, 0.6, 0.99, 0.8, 0.7])
        for n in names:
            update, g = run(n, J, losses, state=states[n], step=step)
            if n == "famo":
                b = balance.get(n)
                L = jnp.asarray(losses, jnp.float32)
                stats = balance.Stats(L, jnp.ones(5), jnp.int32(0), losses_after=0.9 * L**1.1)
                update = b.update(stats, update.state, KEY)
            states[n], found[n] = update.state, g / np.linalg.norm(g)
    gaps = {(a, b): np.abs(found[a] - found[b]).max() for a, b in itertools.combinations(names, 2)}
    same = [pair for pair, gap in gaps.items() if gap < 1e-3]
    assert [set(pair) for pair in same if set(pair) not in COINCIDE] == []
    assert len(same) == len(COINCIDE)


@pytest.mark.parametrize("name", balance.NAMES)
def test_a_first_state_can_be_donated(name):
    """No buffer stands in it twice."""
    given = {"weights": (1.0,) * 3, "points": ((),) * 3} if name == "scheduled" else {}
    state = balance.get(name, **given).init(3, {"w": jnp.ones(4)})
    leaves = jax.tree.leaves(state)
    assert len({x.unsafe_buffer_pointer() for x in leaves if x.size}) == len(leaves)
