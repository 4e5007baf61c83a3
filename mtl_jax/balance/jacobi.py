"""Principal components of a Gramian whose rows lie orders of magnitude apart.

An eigenvalue routine finds the eigenvalues of G to eps times the largest one: with row norms 1e4
apart the small ones are rounding. One-sided Jacobi rotations of the columns of DL, where G = DL L'D
with L a factor of the correlation matrix, find each to eps times the condition of that
matrix (Demmel and Veselic, SIAM J. Matrix Anal. 13(4), 1992).
"""

import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array

SWEEPS = 8


def principal_columns(C: Array, d: Array) -> tuple[Array, Array]:
    """(rows sigma_j u_j [T, T], longest first, rank []): G = diag(d) C diag(d) = sum sigma^2 uu'.

    d: at most 1, 0 where a task takes no part. rank: of C, told at 1e-6 of its largest eigenvalue;
    the rows beyond it are 0.
    """
    n = C.shape[0]
    values, vectors = jnp.linalg.eigh(C)
    kept = ~(values <= 1e-6 * values[-1])  # what is no number is kept, and seen
    factor = vectors * jnp.sqrt(jnp.where(kept, values, 0.0))
    order = jnp.argsort(-d)
    # Triangular and descending, a graded factor's columns are nearly orthogonal to begin with; QR
    # is exact to the length of each row of `factor`, and leaves the wide to the short.
    X = jnp.linalg.qr((d[:, None] * factor)[order].T, mode="r")
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
    rank = jnp.sum(kept) - jnp.sum(d == 0)
    found = jnp.where((jnp.arange(n) < rank)[:, None], found, 0.0)
    return jnp.zeros_like(found).at[:, order].set(found), rank
