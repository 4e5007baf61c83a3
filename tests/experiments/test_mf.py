"""Biased matrix factorisation finds what it assumes."""

import numpy as np

from experiments.mf import factorise, predict, solve


def test_ridge_weights_of_each_owner_against_one_solve_at_a_time():
    rng = np.random.default_rng(0)
    own, x, y = rng.integers(1, 4, 50), rng.normal(size=(50, 3)), rng.normal(size=50)
    found = solve(own, x, y, 5, 2.0)
    assert not found[[0, 4]].any()
    for u in (1, 2, 3):
        mine = x[own == u]
        wanted = np.linalg.solve(mine.T @ mine + 2 * np.eye(3), mine.T @ y[own == u])
        np.testing.assert_allclose(found[u], wanted, rtol=1e-9)


def test_factors_explain_what_biases_cannot():
    rng = np.random.default_rng(1)
    user, item = (a.ravel() for a in np.meshgrid(np.arange(60), np.arange(50)))
    u, v = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    bias = rng.normal(size=60)
    y = 3.0 + bias[user] + (u[user] * v[item]).sum(1) + 0.1 * rng.normal(size=3000)
    seen = rng.random(3000) < 0.7
    error = {}
    for rank in (0, 2):
        mu, users, items = factorise(user[seen], item[seen], y[seen], (60, 50), rank, 0.5, 15)
        guess = predict(mu, users[user[~seen]], items[item[~seen]])
        error[rank] = np.sqrt(np.mean((guess - y[~seen]) ** 2))
    assert error[0] > 1.0
    assert error[2] < 0.25
