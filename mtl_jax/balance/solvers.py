"""Small convex problems inside jit: fixed iterations, float32, no library on the host.

They are posed on a correlation matrix (ones on the diagonal), so that no scale enters. Newton's
matrix gets `RIDGE` on its diagonal while residuals are those of the problem itself: a singular C
is then solved to the end, only along its null space more slowly.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array

RIDGE = 1e-6
FLOOR = 1e-12
ITERATIONS = 16  # of the interior-point method; it is at float32's end after 10 to 12


def _factored(matrix: Array) -> Callable[[Array], Array]:
    chol = jnp.linalg.cholesky(matrix)
    return lambda r: jax.scipy.linalg.cho_solve((chol, True), r)


def _longest(x: Array, step: Array) -> Array:
    """Largest length up to 1 that keeps x + length * step above 0."""
    falls = step < 0
    return jnp.minimum(1.0, 0.995 * jnp.min(jnp.where(falls, -x / jnp.where(falls, step, -1), 2.0)))


def nonnegative_qp(A: Array, b: Array) -> Array:
    """argmin over v >= 0 of v'Av/2 - b'v; A [T, T] positive semidefinite, b [T]. Returns v [T].

    Mehrotra's predictor-corrector method (SIAM J. Optim. 2(4), 1992). b is scaled to length 1, and
    a b of zeros gives zeros. The problem must be bounded below, which those here are.
    """
    top = jnp.max(jnp.abs(b))
    scale = jnp.where(top == 0, 1.0, top)
    b, n = b / scale, b.shape[0]

    def step(_: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        v, s = at
        solve = _factored(A + jnp.diag(s / v + RIDGE))
        r, mu = A @ v - b - s, jnp.dot(v, s) / n
        dv = solve(-r - s)  # towards complementarity at once
        ds = -s - s / v * dv
        length = jnp.minimum(_longest(v, dv), _longest(s, ds))
        reached = jnp.dot(v + length * dv, s + length * ds) / n
        centre = ((reached / mu) ** 3 * mu - dv * ds) / v
        dv = solve(-r - s + centre)
        ds = -s + centre - s / v * dv
        length = jnp.minimum(_longest(v, dv), _longest(s, ds))
        return jnp.maximum(v + length * dv, FLOOR), jnp.maximum(s + length * ds, FLOOR)

    ones = jnp.ones_like(b)
    v, _ = jax.lax.fori_loop(0, ITERATIONS, step, (ones, ones))
    return jnp.where(top == 0, 0.0, v * scale)


def qp_residual(A: Array, b: Array, v: Array) -> Array:
    """How far v is from optimal []: the largest of |min(v, Av - b)|, over the size of b."""
    top = jnp.max(jnp.abs(b))
    gap = jnp.max(jnp.abs(jnp.minimum(v, A @ v - b)))
    return gap / jnp.where(top == 0, 1.0, top)


def least_cone_value(C: Array, a: Array, b: Array, k: Array | float) -> tuple[Array, Array]:
    """argmin over x >= 0 with a'x = 1 of b'x + k sqrt(x'Cx): CAGrad's inner problem on C.

    Returns (x [T], residual []). A primal-dual interior-point method: the conditions of optimality
    b + k Cx/|x|_C - lam a = s >= 0, x * s = 0, of a convex problem with a slope that is Newton's.
    """
    n = b.shape[0]

    def curved(x: Array) -> tuple[Array, Array]:
        """Slope of the length sqrt(x'Cx) and its second derivative."""
        along = C @ x
        length = jnp.sqrt(jnp.maximum(x @ along, FLOOR))
        slope = along / length
        return slope, (C - slope[:, None] * slope[None, :]) / length

    def step(_: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, s, lam = at
        slope, second = curved(x)
        solve = _factored(k * second + jnp.diag(s / x + RIDGE))
        r = b + k * slope - lam * a - s
        mu, by_a = jnp.dot(x, s) / n, solve(a)
        off = 1.0 - jnp.dot(a, x)

        def direction(target: Array) -> tuple[Array, Array, Array]:
            """Towards x * s = target."""
            free = solve(-r + (target - x * s) / x)
            d_lam = (off - jnp.dot(a, free)) / jnp.maximum(jnp.dot(a, by_a), FLOOR)
            dx = free + d_lam * by_a
            return dx, (target - x * s - s * dx) / x, d_lam

        dx, ds, _ = direction(jnp.zeros_like(x))
        length = jnp.minimum(_longest(x, dx), _longest(s, ds))
        reached = jnp.dot(x + length * dx, s + length * ds) / n
        dx, ds, d_lam = direction(jnp.maximum((reached / mu) ** 3, 1e-3) * mu - dx * ds)
        length = jnp.minimum(_longest(x, dx), _longest(s, ds))
        x, s = (jnp.maximum(v + length * d, FLOOR) for v, d in ((x, dx), (s, ds)))
        return x, s, lam + length * d_lam

    start = jnp.full((n,), 1.0) / jnp.sum(a)
    x, _, lam = jax.lax.fori_loop(0, 24, step, (start, jnp.ones_like(b), jnp.float32(0.0)))
    slope = curved(x)[0]
    gap = jnp.max(jnp.abs(jnp.minimum(x * jnp.sum(a), b + k * slope - lam * a)))
    return x, gap


def fair(C: Array, kappa: Array, active: Array, alpha: float) -> tuple[Array, Array]:
    """u > 0 with C u = kappa u^(-1/alpha): Nash's (alpha 1) and FairGrad's point on C.

    Minimises u'Cu/2 - sum kappa u^(1-1/alpha) / (1-1/alpha) (log u for alpha 1), convex, by Newton
    steps in log u; of a few lengths the one is taken where the slope along the step is least.
    Returns (u [T], residual []: the largest relative miss over the active tasks).
    """
    power = 1.0 - 1.0 / alpha
    own = active.astype(jnp.float32)
    lengths = jnp.array([1.0, 0.7, 0.5, 0.25, 0.1, 0.03, 0.01, 1.5, 2.0, 4.0])

    def parts(x: Array) -> tuple[Array, Array, Array]:
        u = jnp.exp(x) * own
        return u, u * (C @ u), own * kappa * jnp.exp(power * x)

    def slope(x: Array, step: Array) -> Array:
        _, pull, push = parts(x)
        return jnp.dot(step, pull - push)

    def step(_: Array, x: Array) -> Array:
        u, pull, push = parts(x)
        H = C * u[:, None] * u[None, :] + jnp.diag(push / alpha + (1.0 - own))
        diagonal = jnp.sqrt(jnp.diagonal(H))
        solve = _factored(H / diagonal[:, None] / diagonal[None, :] + RIDGE * jnp.eye(len(x)))
        towards = jnp.clip(solve((push - pull) / diagonal) / diagonal, -4.0, 4.0)
        slopes = jax.vmap(lambda t: slope(x + t * towards, towards))(lengths)
        slopes = jnp.where(jnp.isfinite(slopes), jnp.abs(slopes), jnp.inf)
        return x + lengths[jnp.argmin(slopes)] * towards

    total = jnp.maximum(own @ C @ own, 1e-2 * jnp.sum(own))
    start = jnp.log(jnp.sum(own * kappa) / total + FLOOR) / (1.0 + 1.0 / alpha)
    x = jax.lax.fori_loop(0, 20, step, jnp.full(kappa.shape, start))
    u, pull, push = parts(x)
    miss = jnp.abs(pull - push) / jnp.where(active, push, 1.0)
    return u, jnp.max(jnp.where(active, miss, 0.0))
