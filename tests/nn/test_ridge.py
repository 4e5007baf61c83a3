"""The closed-form user against numpy's, event by event."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.nn.ridge import Ridge

U, B, H, D, TYPES, HEADS, R = 9, 5, 6, 4, 3, 2, 3


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    hist = rng.integers(1, U, (B, H))
    hist[0] = 0  # nothing known
    hist[1, 2:] = 0
    value = rng.normal(size=(B, H, 2)).astype(np.float32)
    value[..., 1] = rng.random((B, H)) < 0.5
    value[..., 0] *= value[..., 1]
    batch = {
        "hist": hist,
        "hist_type": rng.integers(1, TYPES, (B, H)),  # the padding's too: it must not count
        "hist_value": value,
        "item": rng.integers(1, U, B),
    }
    items, profile = rng.normal(size=(U, D)), rng.normal(size=(B, D))
    args = [items.astype(np.float32), profile.astype(np.float32), batch]
    module = Ridge(HEADS, R, TYPES)
    params = module.init(jax.random.PRNGKey(0), *args)["params"]
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params)
    return module, params, args


def by_hand(params, items, profile, batch):
    """Users [B, N, R + 1], predictions and variances [B, N] in float64."""
    hist, kind, value, target = (batch[k] for k in ("hist", "hist_type", "hist_value", "item"))
    p = {k: jax.tree.map(lambda x: np.asarray(x, np.float64), v) for k, v in params.items()}
    soft = lambda x: np.log1p(np.exp(x))  # noqa: E731
    vectors = np.c_[items @ p["item"]["kernel"] + p["item"]["bias"], np.ones(U)]
    usual = items @ p["usual"]["kernel"] + p["usual"]["bias"]
    prior = (profile @ p["prior"]["kernel"] + p["prior"]["bias"]).reshape(B, HEADS, R + 1)
    users = np.zeros((B, HEADS, R + 1))
    predicted, variance = np.zeros((B, HEADS)), np.zeros((B, HEADS))
    for b in range(B):
        for n in range(HEADS):
            precision = np.diag(soft(p["precision"][n]))
            right = precision @ prior[b, n]
            for j in range(H):
                if not hist[b, j]:
                    continue
                v, known = vectors[hist[b, j]], value[b, j, 1]
                w = soft(p["evidence"][kind[b, j], n]) + known * soft(p["value"][0, n])
                a = p["evidence"][kind[b, j], HEADS + n] + value[b, j] @ p["value"][:, HEADS + n]
                precision = precision + w * np.outer(v, v)
                right = right + (a - w * usual[hist[b, j], n]) * v
            own = vectors[target[b]]
            users[b, n] = np.linalg.solve(precision, right)
            predicted[b, n] = users[b, n] @ own + usual[target[b], n]
            variance[b, n] = own @ np.linalg.solve(precision, own)
    return users.reshape(B, -1), predicted, variance


def test_the_closed_form_is_numpys(case):
    module, params, args = case
    for mine, wanted in zip(
        module.apply({"params": params}, *args), by_hand(params, *args), strict=True
    ):
        np.testing.assert_allclose(mine, wanted, rtol=2e-4, atol=2e-5)


def test_without_a_history_it_is_the_profiles_prior(case):
    module, params, args = case
    users = module.apply({"params": params}, *args)[0]
    prior = args[1] @ params["prior"]["kernel"] + params["prior"]["bias"]
    np.testing.assert_allclose(users[0], prior[0], rtol=1e-4, atol=1e-5)


def test_more_events_leave_less_doubt_and_what_they_say_is_believed(case):
    """Seen often with one outcome, an item is predicted by its mean answer: a / w."""
    module, params, args = case
    items, profile, _ = args
    doubt = []
    for times in (1, 10, 2000):
        hist = np.full((1, times), 3)
        batch = {"hist": hist, "hist_type": np.ones_like(hist), "item": np.array([3])}
        told = module.apply({"params": params}, items, profile[:1], batch)
        doubt.append(np.asarray(told[2][0]))
    assert (doubt[0] > doubt[1]).all()
    assert (doubt[1] > doubt[2]).all()
    table = np.asarray(params["evidence"])[1]
    np.testing.assert_allclose(
        told[1][0], table[HEADS:] / np.log1p(np.exp(table[:HEADS])), rtol=0.02
    )


def test_gradients_reach_every_parameter_and_are_finite(case):
    module, params, args = case

    def loss(p):
        return sum(jnp.sum(jnp.square(x)) for x in module.apply({"params": p}, *args))

    for path, g in jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params)):
        assert np.isfinite(g).all(), path
        assert (np.abs(np.asarray(g)) > 0).any(), path
