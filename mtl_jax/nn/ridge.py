"""A linear model of every user, solved in closed form from the history inside the step.

Head n reads an event j of item vector p_j [r] and type k_j as w_j observations of <u, p_j> that
came out as a_j / w_j, with w = softplus of a learned number per type and a a learned number of
either sign. With a Gaussian prior of mean m (from the profile) and learned precisions l the user is
    u_n = (diag(l) + sum_j w_j p_j p_j')^-1 (l m + sum_j a_j p_j)
the posterior mean of Bayesian linear regression: what attention and means cannot do is to discount
what is seen again and again. Gradients flow through the solution (as in Bertinetto et al.,
"Meta-learning with differentiable closed-form solvers", arXiv:1805.08136).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.core.types import Array, Batch


class Ridge(nn.Module):
    """items [U, D], profile [B, D] and the batch's whole history and targets ->
    users [B, N (r + 1)], predictions [B, N] of the row's item and their variances [B, N]; float32.

    Vectors have a constant 1 besides, for what holds of all items. What a head expects of an item
    whoever the user is (`usual`) is taken off its answers and put back into the predictions.
    """

    heads: int
    width: int
    types: int

    @nn.compact
    def __call__(self, items: Array, profile: Array, batch: Batch) -> tuple[Array, Array, Array]:
        n, r = self.heads, self.width + 1
        hist, target = batch["hist"], batch["item"]
        x = items.astype(jnp.float32)
        p = jnp.concatenate([nn.Dense(self.width, name="item")(x), jnp.ones((len(x), 1))], -1)
        usual = nn.Dense(n, kernel_init=nn.initializers.zeros, name="usual")(x)
        found = jnp.take(jnp.concatenate([p, usual], -1), hist, axis=0)
        seen, usual_seen = found[..., :r], found[..., r:]  # [B, H, r], [B, H, N]
        weight, answer = self._evidence(batch)
        answer = answer - weight * usual_seen
        precision = jax.nn.softplus(self.param("precision", nn.initializers.constant(1.0), (n, r)))
        prior = nn.Dense(n * r, kernel_init=nn.initializers.zeros, name="prior")(
            profile.astype(jnp.float32)
        ).reshape(-1, n, r)
        weighed = (weight[..., None] * seen[:, :, None]).reshape(*hist.shape, n * r)
        gram = jnp.einsum("bhx,bhs->bxs", weighed, seen).reshape(-1, n, r, r)
        gram = gram + jax.vmap(jnp.diag)(precision)
        right = jnp.einsum("bhn,bhr->bnr", answer, seen) + precision * prior
        own = jnp.take(p, target, axis=0)  # [B, r]
        asked = jnp.broadcast_to(own[:, None], right.shape)
        factor = jax.scipy.linalg.cho_factor(gram, lower=True)
        solved = jax.scipy.linalg.cho_solve(factor, jnp.stack([right, asked], -1))
        users = solved[..., 0]
        predicted = jnp.einsum("bnr,br->bn", users, own) + jnp.take(usual, target, axis=0)
        variance = jnp.einsum("bnr,br->bn", solved[..., 1], own)
        return users.reshape(len(users), -1), predicted, variance

    def _evidence(self, batch: Batch) -> tuple[Array, Array]:
        """Weights (positive) and answers of the history's events, [B, H, N]; 0 for padding."""
        n = self.heads
        there = (batch["hist"] > 0).astype(jnp.float32)[..., None]
        table = self.param("evidence", evidence_start, (self.types, 2 * n))
        codes = jax.nn.one_hot(batch["hist_type"], self.types) * there
        weight, answer = codes @ jax.nn.softplus(table[:, :n]), codes @ table[:, n:]
        if "hist_value" in batch:
            value = batch["hist_value"] * there
            known = value[..., value.shape[-1] // 2 :]
            table = self.param("value", evidence_start, (value.shape[-1], 2 * n))
            weight += known @ jax.nn.softplus(table[: known.shape[-1], :n])
            answer += value @ table[:, n:]
        return weight, answer


def evidence_start(key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Weights near softplus(-2) = .13, answers of both signs."""
    n = shape[1] // 2
    spread = 0.3 * jax.random.normal(key, shape, dtype)
    return spread.at[:, :n].add(-2.0)
