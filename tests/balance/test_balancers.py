import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import balance
from mtl_jax.core.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.PRNGKey(0)
ALPHA = (1.0, 0.5, 2.0)
POINTS = (((0.0, 0.0), (10.0, 1.0)), (), ((5.0, 2.0), (15.0, 0.0)))


FIRST = ("fixed", "scheduled", "uncertainty")  # all others: test_properties.py, test_sequences.py


def make(name):
    options = {"scheduled": {"points": POINTS}, "uncertainty": {"learning_rate": 0.1}}
    return balance.get(name, weights=ALPHA, **options.get(name, {}))


def stats(losses=(0.5, 2.0, 1.0), present=(1.0, 1.0, 1.0), step=0):
    return balance.Stats(
        jnp.asarray(losses, jnp.float32), jnp.asarray(present, jnp.float32), jnp.int32(step)
    )


def test_fixed_weights_are_alpha():
    np.testing.assert_array_equal(make("fixed").update(stats(), (), KEY).weights, ALPHA)


@pytest.mark.parametrize(
    ("step", "factors"),
    [(0, (0, 1, 2)), (5, (0.5, 1, 2)), (10, (1, 1, 1)), (15, (1, 1, 0)), (99, (1, 1, 0))],
)
def test_scheduled_weights_are_linear_between_points(step, factors):
    weights = make("scheduled").update(stats(step=step), (), KEY).weights
    np.testing.assert_allclose(weights, np.array(factors) * ALPHA, rtol=1e-6)


def test_uncertainty_follows_the_analytic_gradient_and_adam():
    b = make("uncertainty")
    state = b.init(3)
    s, mu, nu = np.zeros(3), np.zeros(3), np.zeros(3)
    rng = np.random.default_rng(0)
    for t in range(1, 8):
        losses = rng.uniform(0.1, 3.0, 3)
        update = b.update(stats(losses), state, KEY)
        np.testing.assert_allclose(update.weights, np.array(ALPHA) / (2 * np.exp(s)), rtol=1e-5)
        np.testing.assert_allclose(update.info["s"], s, rtol=1e-5, atol=1e-7)
        g = np.array(ALPHA) * (1 - losses * np.exp(-s)) / 2
        mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g * g
        s = s - 0.1 * (mu / (1 - 0.9**t)) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)
        state = update.state
        np.testing.assert_allclose(state["s"], s, rtol=1e-4, atol=1e-6)


def test_the_analytic_gradient_is_that_of_the_objective():
    losses, s = jnp.array([0.5, 2.0, 1.0]), jnp.array([0.3, -0.2, 1.0])
    alpha = jnp.asarray(ALPHA)
    grad = jax.grad(lambda s: jnp.sum(alpha * (losses / (2 * jnp.exp(s)) + s / 2)))(s)
    np.testing.assert_allclose(grad, 0.5 * alpha * (1 - losses * jnp.exp(-s)), rtol=1e-5)


def test_uncertainty_finds_the_weight_of_a_constant_loss():
    b = make("uncertainty")
    state, losses = b.init(3), (0.5, 2.0, 1.0)
    for _ in range(300):
        state = b.update(stats(losses), state, KEY).state
    np.testing.assert_allclose(state["s"], np.log(losses), atol=1e-2)  # minimum: e^s = L


@pytest.mark.parametrize("name", FIRST)
def test_an_absent_task_has_weight_0_and_its_state_is_left_alone(name):
    b = make(name)
    state = b.init(3)
    for step in range(3):  # momentum that would go on moving it
        state = b.update(stats(step=step + 6), state, KEY).state
    update = b.update(stats(losses=(0.5, 0.0, 1.0), present=(1, 0, 1), step=9), state, KEY)
    assert update.weights[1] == 0.0
    assert (np.asarray(update.weights)[[0, 2]] > 0).all()
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(update.state), strict=True)
    for old, new in pairs:
        if np.ndim(old):
            assert old[1] == new[1]
            assert old[0] != new[0]


@pytest.mark.parametrize("name", FIRST)
def test_balancers_are_pure_under_jit_and_vmap(name):
    b = make(name)
    state = b.init(3)
    lanes = 4
    losses = jnp.asarray(np.random.default_rng(1).uniform(0.1, 3, (lanes, 3)), jnp.float32)
    states = jax.tree.map(lambda x: jnp.stack([x] * lanes), state)
    many = jax.jit(
        jax.vmap(lambda x, s: b.update(balance.Stats(x, jnp.ones(3), jnp.int32(7)), s, KEY))
    )(losses, states)
    for lane in range(lanes):
        one = b.update(balance.Stats(losses[lane], jnp.ones(3), jnp.int32(7)), state, KEY)
        for a, c in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
            np.testing.assert_allclose(a, c[lane], rtol=1e-6)


def test_unknown_names_and_options_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown balancer 'fixd'\. Did you mean 'fixed'\?"):
        balance.get("fixd", weights=ALPHA)
    with pytest.raises(UserError, match="Did you mean 'learning_rate'"):
        balance.get("uncertainty", weights=ALPHA, learning_rat=0.1)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("mgda", {"normalise": "l3"}, r"normalise='l3' is unknown\. Did you mean 'l2'"),
        ("gradvac", {"groups": "foo"}, "groups='foo' is unknown"),
        ("cagrad", {"rescale": 7}, "rescale=7 is unknown"),
        ("cagrad", {"c": -0.1}, "c=-0.1: it must be from 0 on"),
        ("cagrad", {"c": float("inf")}, "give finite numbers"),
        ("pcd", {"beta": 1.0}, "beta=1.0: it must be from 0 to below 1"),
        ("ew", {"weights": (1.0, -1.0)}, "it must be from 0 on"),
        ("uw", {"learning_rate": 0.0}, "learning_rate=0.0: it must be above 0"),
        ("dwa", {"steps_per_epoch": 1.5}, "steps_per_epoch=1.5 is not a whole number"),
        ("graddrop", {"leak": 2.0}, "leak=2.0: it must be from 0 to 1"),
        ("nash", {"max_norm": "1"}, "max_norm='1' is not a number"),
        ("famo", {"floor": 0.1}, "floor=0.1: give one value per task"),
        ("fairgrad", {"alpha": 0.0}, "alpha=0.0: it must be from 0.5 to 10"),
        ("scheduled", {"weights": (1.0, "a"), "points": ()}, "give finite numbers"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, match):
    with pytest.raises(UserError, match=match):
        balance.get(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("ew", {"weights": ALPHA}), ("uw", {"weights": ALPHA}), ("famo", {"floor": ALPHA}),
     ("stch", {"ideal": ALPHA}), ("pcd", {"primary": 5})],
)  # fmt: skip
def test_options_of_another_number_of_tasks_are_refused(name, options):
    with pytest.raises(UserError, match="there are 5 tasks"):
        balance.get(name, **options).init(5)


def test_names_say_what_a_balancer_needs():
    assert balance.NAMES["ew"] == "losses"
    assert balance.NAMES["nash"] == "gram"
    assert balance.NAMES["modo"] == "cross_gram"
    assert balance.NAMES["moco"] == "grads"
    assert balance.NAMES["famo"] == "losses_after"


def test_methods_that_remember_gradients_ask_for_their_shape():
    with pytest.raises(UserError, match="'moco' remembers gradients"):
        balance.get("moco").init(3)
