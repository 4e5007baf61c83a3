"""Against the definitions in float64: general solvers, conditions of optimality, residuals.

T from 1 to 64, scales from 1e-6 to 1e6, row norms spread over 1e4, singular Gramians, zero rows.
"""

import numpy as np
import pytest
from jacobians import SIZES, jacobian, run
from scipy.optimize import nnls

pytestmark = pytest.mark.usefixtures("quick_compilation")
SCALES = ((1.0, 1.0), (1e-6, 1e4), (1e6, 1e4))
REGULAR = ("random", "conflict", "aligned")
KINDS = ("random", "conflict", "aligned", "low_rank", "twins", "zero_row")


def cases(sizes=SIZES, kinds=KINDS):
    """Every kind and scale at T = 8; elsewhere random ones, and all at the largest scale."""
    for n_tasks in sizes:
        for kind in kinds:
            for scale, spread in SCALES:
                if n_tasks != 8 and kind != "random" and (scale != 1e6 or n_tasks > 32):
                    continue
                soak = [pytest.mark.soak] if n_tasks in (3, 32) else []  # compiled again each
                yield pytest.param(
                    n_tasks,
                    kind,
                    scale,
                    spread,
                    id=f"T{n_tasks}-{kind}-{scale:g}-{spread:g}",
                    marks=soak,
                )


every = pytest.mark.parametrize(("n_tasks", "kind", "scale", "spread"), list(cases()))


def units(J):
    d = np.linalg.norm(J, axis=1)
    return J / np.where(d > 0, d, 1.0)[:, None], d


def cone_projection(U, x):
    """x projected on {y: U y >= 0}."""
    return x + U.T @ nnls(U.T, -x, maxiter=50000)[0]


@every
def test_mgda_is_the_shortest_vector_of_the_hull(n_tasks, kind, scale, spread):
    J = jacobian(kind, n_tasks, 1, scale, spread)
    found, g = run("mgda", J)
    assert abs(float(np.sum(found.weights)) - 1.0) < 1e-5
    assert np.min(found.weights) >= 0.0
    U, d = units(J)
    if (d == 0).any():
        np.testing.assert_allclose(g, 0.0, atol=1e-6 * d.max())
        return
    least = d.min()
    rows = np.vstack([U.T, least / d])  # u = w d; the last row asks for sum w = 1
    u = nnls(rows, np.r_[np.zeros(J.shape[1]), 1.0], maxiter=50000)[0]
    w = u / d
    best = np.sum(((w / w.sum()) @ J) ** 2)
    assert g @ g <= best * (1 + 1e-4) + 1e-9 * least**2
    assert found.info["residual"] < 1e-4


@every
def test_upgrad_is_the_mean_of_the_projections(n_tasks, kind, scale, spread):
    J = jacobian(kind, n_tasks, 2, scale, spread)
    found, g = run("upgrad", J)
    U, d = units(J)
    expected = sum(d[t] * cone_projection(U, U[t]) for t in range(n_tasks)) / n_tasks
    assert np.linalg.norm(g - expected) <= 1e-4 * d.max()
    assert (U @ g).min() >= -1e-4 * d.max(), "no task is worse off"
    assert found.info["residual"] < 1e-3


@every
def test_dualproj_is_the_projection_of_the_mean(n_tasks, kind, scale, spread):
    J = jacobian(kind, n_tasks, 3, scale, spread)
    _, g = run("dualproj", J)
    U, d = units(J)
    expected = cone_projection(U, J.mean(0) / d.max()) * d.max()
    assert np.linalg.norm(g - expected) <= 1e-4 * d.max()


def cagrad_cases():
    """With c above 1 a singular Gramian is stationary, and then any point is as good as another."""
    for c, kinds in ((0.4, (*REGULAR, "low_rank", "twins")), (1.2, REGULAR)):
        for case in cases(kinds=kinds):
            yield pytest.param(*case.values, c, id=f"{case.id}-{c}", marks=case.marks)


@pytest.mark.parametrize(("n_tasks", "kind", "scale", "spread", "c"), list(cagrad_cases()))
def test_cagrad_has_no_duality_gap(n_tasks, kind, scale, spread, c):
    J = jacobian(kind, n_tasks, 4, scale, spread)
    found, g = run("cagrad", J, c=c)
    g0 = J.mean(0)
    k = c * np.linalg.norm(g0)
    assert np.linalg.norm(g - g0) <= k * (1 + 1e-4), "within the ball"
    w = np.maximum(np.asarray(found.weights, np.float64) - 1.0 / n_tasks, 0.0)
    w = w / w.sum()
    bound = w @ (J @ g0) + k * np.linalg.norm(w @ J)  # no update in the ball gains more everywhere
    # a unit gradient's gain is a difference of numbers as large as |update|, in float32
    d = np.linalg.norm(J, axis=1)
    slack = 1e-4 * np.linalg.norm(g0) * d.min() + 5e-6 * np.linalg.norm(g) * d
    assert (J @ g >= bound - slack).all()


EPS = 1.2e-7


def allowed(J, w, active):
    """Relative residuals that float32 can reach [active].

    1e-4 up to a condition of 100, 10 eps cond above; and where G w cancels, what the exact answer
    misses by once G, C, w and the sums of a step are rounded.
    """
    U, _ = units(J[active])
    G = (J @ J.T)[np.ix_(active, active)]
    cancels = np.abs(G) @ w[active] / np.abs(G @ w[active])
    return np.maximum(max(1e-4, 10 * EPS * np.linalg.cond(U @ U.T)), 4 * EPS * cancels)


@pytest.mark.parametrize(
    ("name", "alpha"), [("nash", 1.0), ("fairgrad", 0.5), ("fairgrad", 2.0), ("fairgrad", 5.0)]
)
@pytest.mark.parametrize(
    ("n_tasks", "kind", "scale", "spread"),
    list(cases(kinds=("random", "conflict", "aligned", "twins", "zero_row"))),
)
def test_bargaining_points_satisfy_their_equation(name, alpha, n_tasks, kind, scale, spread):
    J = jacobian(kind, n_tasks, 5, scale, spread)
    options = {"max_norm": 0.0} if name == "nash" else {"alpha": alpha}
    found, _ = run(name, J, **options)
    active = np.linalg.norm(J, axis=1) > 0
    w = np.asarray(found.weights, np.float64)
    assert found.info["stationary"] == 0
    assert (w[active] > 0).all()
    assert (w[~active] == 0).all()
    miss = np.abs((J @ (w @ J))[active] * w[active] ** (1 / alpha) - 1)
    assert (miss <= allowed(J, w, active)).all()
    assert found.info["residual"] <= allowed(J, w, active).max()


@pytest.mark.parametrize("name", ["nash", "fairgrad"])
@pytest.mark.parametrize("n_tasks", [2, 3, 8])
def test_a_stationary_gramian_gives_no_update_and_says_so(name, n_tasks):
    found, g = run(name, jacobian("stationary", n_tasks, 6))
    assert found.info["stationary"] == 1
    np.testing.assert_array_equal(g, 0.0)


@pytest.mark.parametrize(
    ("n_tasks", "kind", "scale", "spread"),
    list(cases(kinds=("random", "conflict", "aligned", "zero_row"))),
)
def test_imtl_g_and_config_project_alike_on_every_task(n_tasks, kind, scale, spread):
    J = jacobian(kind, n_tasks, 7, scale, spread)
    U, d = units(J)
    U, active = U[d > 0], d > 0
    found, g = run("imtl_g", J)
    assert abs(float(np.sum(found.weights)) - 1) < 1e-3
    along = U @ g
    assert np.ptp(along) <= 1e-3 * np.linalg.norm(g)
    _, g = run("config", J)
    along = U @ (g / np.linalg.norm(g))
    assert np.ptp(along) <= 1e-3
    assert abs(np.linalg.norm(g) - d[active].sum() * along.mean()) <= 1e-3 * d.max() * n_tasks


@pytest.mark.parametrize("kind", ["low_rank", "twins"])
def test_dependent_rows_are_inverted_on_their_span(kind):
    J = jacobian(kind, 8, 8)
    U, _ = units(J)
    x = np.linalg.pinv(U, rcond=1e-4) @ np.ones(8)
    x /= np.linalg.norm(x)
    expected = (J @ x).sum() * x
    _, g = run("config", J)
    assert np.linalg.norm(g - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize("n_tasks", SIZES)
def test_aligned_mtl_makes_principal_components_equally_long(n_tasks, scale):
    """Against the singular value decomposition of J, its rank told by the unit rows."""
    for kind in ("random", "low_rank", "rank_2", "zero_row"):
        for size, spread in SCALES:
            J = jacobian(kind, n_tasks, 9, size, spread)
            found, g = run("aligned_mtl", J, scale=scale, reduce="sum")
            U, d = units(J)
            rank = np.linalg.matrix_rank(U, tol=1e-4)
            u, s, v = (x.astype(np.float64) for x in np.linalg.svd(J, full_matrices=False))
            values = s[:rank] ** 2
            middle = values[rank // 2]  # the lower one of two
            told = {"min": values[-1], "median": middle, "rmse": values.mean()}[scale]
            expected = np.sqrt(told) * v[:rank].T @ (u[:, :rank].T @ (d > 0))
            assert found.info["rank"] == rank
            assert np.linalg.norm(g - expected) <= 3e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("n_tasks", [2, 3, 8])
def test_pcd_is_the_closest_to_the_primary_that_keeps_the_others_progress(n_tasks):
    J = jacobian("conflict", n_tasks, 10, 1.0, 100.0)
    tau = 0.1
    _, g = run("pcd", J, tau=tau)
    U, d = units(J)  # at the first step every gradient is divided by its own norm
    others = U[1:]
    shift = np.linalg.pinv(others) @ np.full(n_tasks - 1, tau)
    expected = shift + cone_projection(others, U[0] - shift)
    assert (others @ expected).min() > tau - 1e-9
    expected *= d[0] / np.linalg.norm(expected)
    np.testing.assert_allclose(g, expected, atol=1e-4 * d[0])


def test_gradnorm_pulls_the_large_gradient_down():
    J = np.diag([1.0, 10.0, 1.0])
    state, weights = None, None
    for k in range(50):
        found, _ = run("gradnorm", J, [1.0, 1.0, 1.0], state=state, step=k, learning_rate=0.05)
        state, weights = found.state, np.asarray(found.weights)
    assert weights[1] < 0.5 < weights[0]
    np.testing.assert_allclose(weights.sum(), 3.0, rtol=1e-5)
