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


def farthest_level(
    C: Array, a: Array, b: Array, k: Array, low: Array
) -> tuple[Array, Array, Array]:
    """The largest lam whose y = argmin over y >= 0 of y'Cy/2 - (lam a - b)'y is at most k long.

    With unit gradients g_i (C = gg'), b_i = <g_i, g0>: y gives the point g0 + sum y_i g_i closest
    to g0 among those that gain at least lam a_i on every g_i, and its length sqrt(y'Cy) is the way
    there: convex and rising in lam, so Newton's method comes down on it from above. lam is sought
    between `low`, which is known to be within reach, and what one gradient alone allows.
    Returns (y [T], lam, residual [], the miss of k or of optimality relative to k).
    """
    start = jnp.min((k + b) / jnp.maximum(a, FLOOR))

    def at(lam: Array) -> tuple[Array, Array, Array]:
        y = nonnegative_qp(C, lam * a - b)
        way = jnp.sqrt(jnp.maximum(y @ (C @ y), 0.0))
        return y, way, qp_residual(C, lam * a - b, y)

    def step(_: Array, x: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        lam, least, most = x
        y, way, miss = at(lam)
        solved = miss < 1e-3  # nothing gains lam everywhere, where it is not
        far = ~solved | (way > k)
        least, most = jnp.where(far, least, lam), jnp.where(far, lam, most)
        newton = lam - (way - k) * way / jnp.maximum(jnp.dot(a, y), FLOOR)
        halved = 0.5 * (least + most)
        return jnp.where(solved, jnp.clip(newton, least, most), halved), least, most

    low = jnp.minimum(low, start)
    lam, _, _ = jax.lax.fori_loop(0, 8, step, (start, low, start))
    y, way, miss = at(lam)
    return y, lam, jnp.maximum(miss, (way - k) / jnp.maximum(k, FLOOR))


def fair(C: Array, kappa: Array, active: Array, alpha: float) -> tuple[Array, Array]:
    """u > 0 with C u = kappa u^(-1/alpha): Nash's (alpha 1) and FairGrad's point on C.

    Minimises u'Cu/2 - sum kappa u^(1-1/alpha) / (1-1/alpha) (log u for alpha 1), convex, by Newton
    steps relative to u; of a few lengths the one is taken where the slope, which rises along the
    step, is closest to 0. Returns (u [T], residual [], the largest relative miss of active tasks).
    """
    power = 1.0 - 1.0 / alpha
    own = active.astype(jnp.float32)
    log_kappa = jnp.where(active, jnp.log(jnp.where(active, kappa, 1.0)), 0.0)
    shares = jnp.array([1.0, 0.8, 0.6, 0.4, 0.25, 0.12, 0.06, 0.03, 0.01])

    def parts(x: Array) -> tuple[Array, Array, Array]:
        """u = e^x, u (C u) and kappa u^power, 0 where a task is not active."""
        u = own * jnp.exp(x)
        return u, u * (C @ u), own * jnp.exp(log_kappa + power * x)

    def step(_: Array, x: Array) -> Array:
        u, pull, push = parts(x)
        H = C * u[:, None] * u[None, :] + jnp.diag(push / alpha + (1.0 - own))
        diagonal = jnp.sqrt(jnp.diagonal(H))
        solve = _factored(H / diagonal[:, None] / diagonal[None, :] + RIDGE * jnp.eye(len(u)))
        towards = own * solve((push - pull) / diagonal) / diagonal
        longest = jnp.minimum(8.0, 0.98 / jnp.maximum(jnp.max(-towards), FLOOR))
        lengths = jnp.append(longest * shares, jnp.minimum(1.0, longest))

        def slope(t: Array) -> Array:
            _, pull, push = parts(x + jnp.log1p(t * towards))
            return jnp.abs(jnp.sum(towards / (1.0 + t * towards) * (pull - push)))

        slopes = jax.vmap(slope)(lengths)
        best = jnp.argmin(jnp.where(jnp.isfinite(slopes), slopes, jnp.inf))
        return x + jnp.log1p(lengths[best] * towards)

    root = 1.0 / (1.0 + 1.0 / alpha)
    x = root * log_kappa  # the answer for orthogonal gradients, then the best multiple of it
    u, pull, push = parts(x)
    x = x + root * jnp.log(
        jnp.sum(push) / jnp.maximum(jnp.sum(pull), 1e-3 * jnp.sum(u * u)) + FLOOR
    )
    # The flatter the power, the longer the way where norms lie far apart.
    x = jax.lax.fori_loop(0, 24 if alpha <= 3.0 else 64, step, x)
    u, pull, push = parts(x)
    miss = jnp.abs(pull / jnp.where(active, push, 1.0) - 1.0)
    return u, jnp.max(jnp.where(active, miss, 0.0))
