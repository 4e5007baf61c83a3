"""Principal components of a Gramian whose rows lie orders of magnitude apart.

An eigenvalue routine finds the eigenvalues of G to eps times the largest one: with row norms 1e4
apart the small ones are rounding. One-sided Jacobi rotations of the columns of DL, where G = DL L'D
with L the Cholesky factor of the correlation matrix, find each to eps times the condition of that
matrix (Demmel and Veselic, SIAM J. Matrix Anal. 13(4), 1992).
"""

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array

SWEEPS = 6


def principal_columns(C: Array, d: Array) -> Array:
    """Rows sigma_j u_j [T, T] with G = diag(d) C diag(d) = sum_j sigma_j^2 u_j u_j', in no order.

    d: at most 1, 0 where a task takes no part (its sigma is then 0).
    """
    n = C.shape[0]
    order = jnp.argsort(-d)  # the factor of a graded matrix is nearly orthogonal when it descends
    eye = jnp.eye(n, dtype=jnp.float32)
    L = jnp.linalg.cholesky(C[order][:, order] + 3e-7 * eye)
    X = (d[order][:, None] * L).T  # columns of DL as rows
    if n % 2:
        X = jnp.concatenate([X, jnp.zeros((1, n))])
    half = len(X) // 2

    def turn(_: int, pairs: tuple[Array, Array]) -> tuple[Array, Array]:
        """Every pair is made orthogonal, then partners change as in a round robin."""
        p, q = pairs
        a, b, c = jnp.sum(p * p, 1), jnp.sum(q * q, 1), jnp.sum(p * q, 1)
        zeta = (b - a) / jnp.where(c == 0, 1.0, 2.0 * c)
        sign = jnp.where(zeta >= 0, 1.0, -1.0)
        t = jnp.where(c == 0, 0.0, sign / (jnp.abs(zeta) + jnp.sqrt(1.0 + zeta * zeta)))
        cosine = 1.0 / jnp.sqrt(1.0 + t * t)
        sine = (cosine * t)[:, None]
        p, q = cosine[:, None] * p - sine * q, sine * p + cosine[:, None] * q
        up = jnp.concatenate([p[:1], q[:1], p[1:-1]])
        return (up, jnp.concatenate([q[1:], p[-1:]])) if half > 1 else (p, q)

    p, q = jax.lax.fori_loop(0, SWEEPS * max(len(X) - 1, 1), turn, (X[:half], X[half:]))
    found = jnp.concatenate([p, q])
    found = found[jnp.argsort(-jnp.sum(found * found, 1))[:n]]
    return jnp.zeros_like(found).at[:, order].set(found)
