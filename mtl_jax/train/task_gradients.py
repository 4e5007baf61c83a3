"""Gradients of a step: of every task where the balancer looks, and the weighted one of all.

Losses are a vector over tasks; the chain below the representation and the one above it are
differentiated apart, so that a look at the representation costs the heads' part only:

    rep = shared(parameters, rows)      losses [T] = predict(heads, rep)

A batch may come in slices (gradient accumulation). "shared" adds up every task's gradients over the
slices; the other levels go over them twice, once for the Gramian and once with the weights, so that
what is balanced is always the mean gradient of the whole batch.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.balance import Balancer, Stats, Update
from mtl_jax.balance.gramian import cross, gramian, telemetry
from mtl_jax.balance.moving import combined
from mtl_jax.core.errors import UserError
from mtl_jax.core.rng import key_for
from mtl_jax.core.trees import map_by_path, path_of
from mtl_jax.core.types import Array, Batch
from mtl_jax.tasks.task import label_counts, loss_sums
from mtl_jax.train.config import BalanceConfig
from mtl_jax.train.groups import by_group, group_names, group_of, is_own
from mtl_jax.train.held import Held, hold, holds

Tree = Any


class Found(NamedTuple):
    """What a step needs: gradients of parameters and rows, raw losses and counts [T], update."""

    grads: Tree
    rows: Tree
    losses: Array
    counts: Array
    update: Update
    seen: dict[str, Array]  # telemetry


class Chain(NamedTuple):
    """One slice: its losses, raw and times alpha [m], and how to go back through it."""

    raw: Array
    losses: Array
    up: Callable[[Array], tuple[Tree, Tree]]  # cotangent [m] -> (heads, representation)
    low: Callable[[Tree], tuple[Tree, Tree]]  # representation -> (parameters, rows)
    each: Callable[[], list[tuple[Tree, Tree]]]  # m times (heads, representation): J above


def check_level(balancer: Balancer, config: BalanceConfig, slices: int) -> None:
    """UserError where the balancer cannot work at the level that is asked for."""
    needs, level, name = balancer.needs, config.level, config.name
    if config.gram_every < 1:
        raise UserError(f"balance.gram_every={config.gram_every}: it must be 1 or more")
    if needs in ("losses", "losses_after"):
        if config.gram_every > 1:
            raise UserError(f"balance.gram_every={config.gram_every}: {name!r} reads no gradients")
        return
    if needs == "cross_gram" and level == "representation":
        raise UserError(
            f"balance.level='representation': {name!r} compares the gradients of two halves of a "
            "batch, whose rows are not the same; use 'shared' or 'last_shared'"
        )
    if needs == "grads" and level != "shared" and name != "graddrop":
        raise UserError(f"balance.level={level!r}: {name!r} remembers gradients; use 'shared'")
    if name == "graddrop" and (level == "last_shared" or (level != "shared" and slices > 1)):
        raise UserError(
            f"balance.level={level!r}: 'graddrop' changes gradients entry by entry: use 'shared', "
            "or 'representation' with batch.accumulate=1"
        )
    if getattr(balancer, "groups", "whole") != "whole" and level != "shared":
        raise UserError(f"balance.level={level!r}: groups of parameters need level 'shared'")
    if config.gram_every > 1 and (
        needs == "grads" or getattr(balancer, "groups", "whole") != "whole"
    ):
        raise UserError(f"balance.gram_every={config.gram_every}: {name!r} needs every step's")


def start(
    balancer: Balancer,
    config: BalanceConfig,
    params: Tree,
    tables: tuple[str, ...],
    n_tasks: int,
    reached: tuple[str, ...] = (),
) -> Any:
    """The balancer's first state; inside jit. reached: see `groups.is_own`."""
    like: Any = _shared_only(params, reached)
    if getattr(balancer, "groups", "whole") != "whole":
        # One target per group; the tables' rows are groups of their own.
        like = group_names(balancer.groups, like, tables)  # type: ignore[attr-defined]
    inner = balancer.init(n_tasks, like)
    return hold(inner, balancer, n_tasks) if holds(balancer, config) else inner


def make_gradients(
    model: Any, balancer: Balancer, config: BalanceConfig, alpha: tuple[float, ...]
) -> Callable[[Any, Batch], Found]:
    """`gradients(state, batch) -> Found`; alpha [T] multiplies every loss before it is balanced."""
    T = len(model.tasks)
    own_weight = jnp.asarray(alpha or (1.0,) * T, jnp.float32)
    halved = balancer.needs == "cross_gram"
    looks = balancer.needs not in ("losses", "losses_after")
    unit = looks and config.heads == "unit"
    reached = getattr(model, "reached_heads", ())

    def gradients(state: Any, batch: Batch) -> Found:
        key = key_for(state.key, "dropout", state.step)
        balance_key = key_for(state.key, "balance", state.step)
        rows = model.gather(state.tables, batch)
        low = {k: v for k, v in state.params.items() if k != "heads"}
        heads = {k: v for k, v in state.params.items() if k == "heads"}
        slices = {k: v for k, v in batch.items() if not k.startswith("uniq/")}
        n = batch["user"].shape[0]
        check_level(balancer, config, n)

        counts = label_counts(model.tasks, batch)
        # A task that weighs nothing has no part in balancing, as one without labelled rows.
        present = ((counts > 0) & (own_weight > 0)).astype(jnp.float32)
        # What is differentiated: a loss a task, or one a task and half of the rows. `mix` makes
        # the tasks' losses of them.
        split = (lambda b: [_half(model, b, h) for h in (0, 1)]) if halved else (lambda b: [b])
        parts = jnp.concatenate([label_counts(model.tasks, b) for b in split(batch)])
        scale = jnp.tile(own_weight, 2 if halved else 1) / jnp.maximum(parts, 1.0)
        mix = jnp.eye(T)
        if halved:
            share = parts.reshape(2, T) / jnp.maximum(counts, 1.0)
            mix = jnp.concatenate([jnp.diag(s) for s in share], 1)

        def chain(part: Batch, k: Array) -> Chain:
            rep, pull_low = jax.vjp(lambda p, r: model.shared(p, r, part, k, True), low, rows)
            pieces = split(part)

            def sums(h: Tree, z: Tree, tasks: Any, labels: Batch) -> Array:
                outputs = model.predict(h, z, part, key_for(k, "predict"), True)
                return loss_sums(tasks, outputs, labels)[0]

            def losses(h: Tree, z: Tree) -> tuple[Array, Array]:
                raw = jnp.concatenate([sums(h, z, model.tasks, b) for b in pieces])
                return raw * scale, raw

            def one(n: int) -> Callable[[Tree, Tree], Array]:
                task, labels = model.tasks[n % T : n % T + 1], pieces[n // T]
                return lambda h, z: sums(h, z, task, labels)[0] * scale[n]

            def each() -> list[tuple[Tree, Tree]]:
                # A scalar loss reaches one head, and only that one is gone back through; pulling
                # T unit vectors back through all heads would be T times the work. The forward
                # passes are one and the same, and the compiler sees it.
                return [jax.grad(one(n), (0, 1))(heads, rep) for n in range(len(parts))]

            found, pull_up, raw = jax.vjp(losses, heads, rep, has_aux=True)
            return Chain(raw, found, pull_up, pull_low, each)

        def backward(c: Chain, w: Array) -> tuple[Tree, Tree]:
            """Shared parameters by weights w [T], a task's own by 1 or w."""
            g_heads, g_rep = c.up(w @ mix)
            if unit:
                g_heads = _choose_own(c.up(jnp.ones(T) @ mix)[0], g_heads, reached)
            g_low, g_rows = c.low(g_rep)
            return {**g_low, **g_heads}, g_rows

        def over_slices(f: Callable[[Batch, Array], Tree]) -> Tree:
            """The sum of f(slice, key) over the slices."""
            if n == 1:
                return f({k: v[0] for k, v in slices.items()}, key)

            def body(carry: Tree, x: Any) -> tuple[Tree, None]:
                return jax.tree.map(jnp.add, carry, f(*x)), None

            keys = jax.random.split(key, n)
            first = jax.eval_shape(f, *jax.tree.map(lambda v: v[0], (slices, keys)))
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), first)
            return jax.lax.scan(body, zeros, (slices, keys))[0]

        def balanced(
            losses: Array, J: Tree = None, gram: Array | None = None
        ) -> tuple[Update, Any]:
            """The balancer's word on losses [m] and what there is of the gradients."""
            stats = Stats(mix @ losses, present, state.step)
            seen: dict[str, Array] = {}
            if J is not None:
                whole = jax.tree.map(lambda g: jnp.tensordot(mix, g, 1), J) if halved else J
                if gram is None:
                    groups = getattr(balancer, "groups", "whole")
                    gram = gramian(whole) if groups == "whole" else by_group(groups, whole)
                if balancer.needs == "grads":
                    stats = stats._replace(grads=_dense(whole))
                if halved:
                    both = (jax.tree.map(lambda g, h=h: g[h * T : (h + 1) * T], J) for h in (0, 1))
                    stats = stats._replace(cross_gram=cross(*both))
            if gram is not None:
                seen = telemetry(gram.sum(0) if gram.ndim == 3 else gram, present)
                if balancer.needs == "gram":
                    stats = stats._replace(gram=gram)
            inner = state.balancer.inner if isinstance(state.balancer, Held) else state.balancer
            return balancer.update(stats, inner, balance_key), seen

        def by_losses() -> tuple[Tree, Tree, Array, Update, Any]:
            """Balancers that read no gradients: one backward pass."""
            if n == 1:
                c = chain({k: v[0] for k, v in slices.items()}, key)
                update, seen = balanced(c.losses)
                return *backward(c, update.weights), c.raw, update, seen
            if not balancer.ahead:
                found = over_slices(lambda part, k: chain(part, k).losses)
                weights = balanced(found)[0].weights
            else:
                weights = balanced(jnp.zeros(T))[0].weights

            def one(part: Batch, k: Array) -> Tree:
                c = chain(part, k)
                return backward(c, weights), c.raw, c.losses

            (g, r), raw, losses = over_slices(one)
            update, seen = balanced(losses)
            return g, r, raw, update._replace(weights=weights), seen

        def looked_at(found: list[tuple[Tree, Tree]], c: Chain) -> Tree:
            """J [m, ...] at the representation or the last shared layer."""
            at_rep = _stack([z for _, z in found])
            if config.level == "representation":
                return at_rep
            J = _last_shared(_stack([h for h, _ in found]), config.last_shared, reached)
            if not J:  # it lies below the representation
                J = jax.lax.map(
                    lambda z: _last_shared(c.low(z)[0], config.last_shared, reached), at_rep
                )
            if not J:
                _refuse_last_shared(config.last_shared, {**low, **heads}, reached)
            return J

        def by_level() -> tuple[Tree, Tree, Array, Update, Any]:
            """Gram at the representation or the last shared layer, then one backward pass."""
            if n == 1:
                c = chain({k: v[0] for k, v in slices.items()}, key)
                found = c.each()
                update, seen = balanced(c.losses, looked_at(found, c))
                w = update.weights @ mix
                own = _sum([h for h, _ in found], jnp.ones(T) @ mix if unit else w)
                # Of this pass only what the heads share is used, and the rest is not compiled.
                g_heads = _choose_own(own, c.up(w)[0], reached)
                g_rep = combined(w, _stack([z for _, z in found]))
                g_low, g_rows = c.low(g_rep if update.direction is None else update.direction)
                return {**g_low, **g_heads}, g_rows, c.raw, update, seen

            def look(part: Batch, k: Array) -> Tree:
                c = chain(part, k)
                J = looked_at(c.each(), c)
                return gramian(J) if config.level == "representation" else J, c.losses

            gram_or_J, losses = over_slices(look)
            if config.level == "representation":
                update, seen = balanced(losses, gram=gram_or_J)
            else:
                update, seen = balanced(losses, gram_or_J)

            def one(part: Batch, k: Array) -> Tree:
                c = chain(part, k)
                return backward(c, update.weights), c.raw

            (g, r), raw = over_slices(one)
            return g, r, raw, update, seen

        def by_parameters() -> tuple[Tree, Tree, Array, Update, Any]:
            """Every task's gradient of every shared parameter and gathered row."""

            def one(part: Batch, k: Array) -> Tree:
                c = chain(part, k)
                found = c.each()
                # One task after another: batched over tasks the products are no faster, and the
                # activations of all tasks would be held at once.
                J_low, J_rows = jax.lax.map(c.low, _stack([z for _, z in found]))
                return {**J_low, **_stack([h for h, _ in found])}, J_rows, c.raw, c.losses

            J, J_rows, raw, losses = over_slices(one)
            update, seen = balanced(losses, {"params": _shared_only(J, reached), "rows": J_rows})
            grads, r = _apply(update, mix, J, J_rows, getattr(balancer, "groups", "whole"), reached)
            own = combined(jnp.ones(T) @ mix if unit else flat_weights(update) @ mix, J)
            return _choose_own(own, grads, reached), r, raw, update, seen

        if not looks:
            found = by_losses()
        else:
            look = by_parameters if config.level == "shared" else by_level
            if holds(balancer, config):
                found = _every(config, state, look, present, backward, over_slices, chain)
            else:
                found = look()
        grads, row_grads, raw, update, seen = found
        raw = raw.reshape(-1, T).sum(0) / jnp.maximum(counts, 1.0)
        return Found(grads, row_grads, raw, counts, update, seen)

    return gradients


def _every(
    config: BalanceConfig,
    state: Any,
    look: Callable[[], Any],
    present: Array,
    backward: Callable[..., Any],
    over_slices: Callable[..., Any],
    chain: Callable[..., Any],
) -> Any:
    """`look` every gram_every steps, between them one backward pass with the weights it found."""
    held: Held = state.balancer

    def looking() -> Any:
        grads, rows, raw, update, seen = look()
        # A task that was absent keeps its weight for the steps to come.
        weights = jnp.where(present > 0, update.weights, held.weights)
        kept = Held(update.state, weights, update.info, seen)
        return grads, rows, raw, update._replace(state=kept), seen

    def holding() -> Any:
        weights = held.weights * present

        def one(part: Batch, k: Array) -> Tree:
            c = chain(part, k)
            return backward(c, weights), c.raw

        (grads, rows), raw = over_slices(one)
        return grads, rows, raw, Update(weights, held, held.info), held.seen

    return jax.lax.cond(state.step % config.gram_every == 0, looking, holding)


def _apply(
    update: Update, mix: Array, J: Tree, J_rows: Tree, groups: str, reached: tuple[str, ...]
) -> tuple[Tree, Tree]:
    """The update of parameters and rows from the gradients of every task [m, ...]."""
    if update.weights.ndim == 2:  # a row of weights for each group
        names = group_names(groups, _shared_only(J, reached), tuple(J_rows))
        by_name = dict(zip(names, update.weights @ mix, strict=True))
        none = jnp.zeros(mix.shape[1])  # for a task's own

        def of_group(path: str, g: Array) -> Array:
            return combined(by_name.get(group_of(groups, path), none), g)

        rows = {k: combined(by_name[f"rows/{k}"], g) for k, g in J_rows.items()}
        return map_by_path(of_group, J), rows
    w = update.weights @ mix
    rows = combined(w, J_rows)
    if update.direction is None:
        return combined(w, J), rows
    flat = {path_of(p): x for p, x in jax.tree_util.tree_flatten_with_path(update.direction)[0]}
    return map_by_path(lambda p, g: flat.get(p, jnp.zeros(g.shape[1:], g.dtype)), J), rows


def flat_weights(update: Update) -> Array:
    """Weights [T]; of grouped ones the mean."""
    return update.weights if update.weights.ndim == 1 else update.weights.mean(0)


def _half(model: Any, batch: Batch, h: int) -> Batch:
    """The batch with the labels of every second row only."""
    masks = {}
    for t in model.tasks:
        mask = batch[f"mask/{t.name}"]
        axis = mask.ndim - (2 if t.kind == "multilabel" and t.labels else 1)
        shape = [1] * mask.ndim
        shape[axis] = -1
        mine = (jnp.arange(mask.shape[axis]) % 2 == h).reshape(shape)
        masks[f"mask/{t.name}"] = mask * mine
    return {**batch, **masks}


def _choose_own(own: Tree, shared: Tree, reached: tuple[str, ...]) -> Tree:
    """Leaves of `own` where a parameter is a task's own, of `shared` elsewhere."""
    mine = map_by_path(lambda p, _: is_own(p, reached), shared)
    return jax.tree.map(lambda m, a, b: a if m else b, mine, {k: own[k] for k in shared}, shared)


def _shared_only(tree: Tree, reached: tuple[str, ...]) -> Tree:
    """The tree's shared leaves by path, as a flat dict."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(p): x for p, x in flat if not is_own(path_of(p), reached)}


def _dense(J: Tree) -> Tree:
    """What balancers that read gradients leaf by leaf get: all but the tables' rows."""
    return J["params"] if isinstance(J, dict) and set(J) == {"params", "rows"} else J


def _last_shared(grads: Tree, pattern: str, reached: tuple[str, ...]) -> Tree:
    """The shared leaves that `pattern` names, by path."""
    return {
        p: g for p, g in _shared_only(grads, reached).items() if pattern and re.search(pattern, p)
    }


def _refuse_last_shared(pattern: str, params: Tree, reached: tuple[str, ...]) -> None:
    raise UserError(
        f"balance.last_shared={pattern!r} names no shared parameter. Paths look like: "
        f"{', '.join(list(_shared_only(params, reached))[-6:])}"
    )


def _stack(trees: list[Tree]) -> Tree:
    """Leaves [m, ...] of m trees."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _sum(trees: list[Tree], weights: Array) -> Tree:
    """sum_n weights[n] trees[n]."""
    return jax.tree.map(lambda *x: sum(w * g for w, g in zip(weights, x, strict=True)), *trees)
