"""Task gradients by level, in slices and in halves, on a model small enough to differentiate whole.

Every number is checked against `jax.grad` of each task's loss alone, in plain numpy afterwards.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import balance
from mtl_jax.core.errors import UserError
from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import map_by_path
from mtl_jax.nn.config import ModelConfig
from mtl_jax.train import state as states
from mtl_jax.train.config import BalanceConfig, OptimConfig
from mtl_jax.train.groups import is_own
from mtl_jax.train.step import make_step
from mtl_jax.train.task_gradients import make_gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")
TASKS = tuple(TaskSpec(n, k, n) for n, k in (("a", "binary"), ("b", "regression"), ("c", "binary")))
ALPHA = (1.0, 0.3, 2.0)
USERS, WIDTH, HIDDEN = 9, 3, 4
OPTIM = OptimConfig(learning_rate=0.1, clip=0.0)
LEVELS = ("representation", "last_shared", "shared")


@dataclass(frozen=True)
class Small:
    """rep = tanh((x + user row) A); trunk tanh(rep B); heads: one column each."""

    tasks: tuple[TaskSpec, ...] = TASKS
    config: ModelConfig = dataclasses.field(default_factory=lambda: ModelConfig(width=2))

    def gather(self, tables, batch):
        at = batch["uniq/user"].reshape(-1)
        return {"user": tables["user"].at[at].get(mode="fill", fill_value=0)}

    def shared(self, params, rows, batch, key, train):
        u = jnp.take(rows["user"], batch["user"], axis=0)
        return {"z": jnp.tanh((batch["x"] + u) @ params["towers"]["A"])}

    def predict(self, params, rep, batch, key, train):
        h = params["heads"]
        x = jnp.tanh(rep["z"] @ h["trunk"]["B"])
        return {t.name: x @ h[f"head_{t.name}"]["w"] for t in self.tasks}


def make_batch(seed=0, slices=1, rows=16):
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(USERS, 6, replace=False))
    batch = {
        "x": rng.normal(size=(1, 1, rows, WIDTH)),
        "user": rng.integers(0, 6, (1, 1, rows)),
        "uniq/user": np.array([[*ids, USERS]]),
    }
    for t in TASKS:
        batch[f"label/{t.name}"] = rng.integers(0, 2, (1, 1, rows)) if t.kind == "binary" else (
            rng.normal(1, 2, (1, 1, rows)))  # fmt: skip
        batch[f"mask/{t.name}"] = rng.random((1, 1, rows)) < 0.7
    if slices > 1:
        batch = {k: v if k.startswith("uniq/") else v.reshape(slices, 1, -1, *v.shape[3:])
                 for k, v in batch.items()}  # fmt: skip
    ids = {k for k in batch if k.endswith("user")}
    return {k: v.astype(np.int32 if k in ids else np.float32) for k, v in batch.items()}


def parameters():
    rng = np.random.default_rng(7)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    heads = {f"head_{t.name}": {"w": normal(HIDDEN)} for t in TASKS}
    heads["trunk"] = {"B": normal(HIDDEN, HIDDEN)}
    params = {"towers": {"A": normal(WIDTH, HIDDEN)}, "heads": heads}
    return params, {"user": normal(USERS, WIDTH)}


def config_of(level="shared", **more):
    return BalanceConfig(level=level, last_shared="^heads/trunk/", **more)


@cache
def build(name, options=(), config=None, alpha=ALPHA):
    balancer = balance.get(name, **dict(options))
    config = config or config_of()
    config = dataclasses.replace(config, name=name)
    tx = optax.sgd(1.0)
    params, table = parameters()
    make = lambda: states.create(params, table, tx, balancer, 3, jax.random.PRNGKey(3), config)  # noqa: E731
    gradients = jax.jit(make_gradients(Small(), balancer, config, alpha))
    step = jax.jit(
        make_step(Small(), balancer, tx, optax.constant_schedule(0.1), OPTIM, config, alpha)
    )
    return gradients, step, jax.jit(make)()


def by_hand(batch, params, rows, part="all", alpha=ALPHA):
    """Losses [T] times alpha and task gradients of (params, rows), one jax.grad after another."""
    model = Small()

    def loss(params, rows, n):
        t = TASKS[n]
        flat = {
            k: v.reshape(1, -1, *v.shape[3:]) for k, v in batch.items() if not k.startswith("uniq/")
        }
        out = model.predict(params, model.shared(params, rows, flat, None, True), flat, None, True)
        y, mask = flat[f"label/{t.name}"], flat[f"mask/{t.name}"]
        per = (
            optax.sigmoid_binary_cross_entropy(out[t.name], y)
            if t.kind == "binary"
            else (out[t.name] - y) ** 2
        )
        if part != "all":
            mask = mask * (np.arange(mask.shape[-1]) % 2 == part)
        return alpha[n] * jnp.sum(per * mask) / mask.sum()

    found = [jax.value_and_grad(loss, (0, 1))(params, rows, n) for n in range(3)]
    return np.array([f[0] for f in found]), [f[1] for f in found]


def rep_gradients(batch, params, rows):
    model = Small()
    flat = {
        k: v.reshape(1, -1, *v.shape[3:]) for k, v in batch.items() if not k.startswith("uniq/")
    }
    z = model.shared(params, rows, flat, None, True)

    def loss(z, n):
        t = TASKS[n]
        out = model.predict(params, z, flat, None, True)[t.name]
        y, mask = flat[f"label/{t.name}"], flat[f"mask/{t.name}"]
        per = optax.sigmoid_binary_cross_entropy(out, y) if t.kind == "binary" else (out - y) ** 2
        return ALPHA[n] * jnp.sum(per * mask) / mask.sum()

    return [jax.grad(loss)(z, n) for n in range(3)]


def vector(tree, keep=lambda path: True):
    found = []
    map_by_path(lambda p, x: found.append(np.ravel(x)) if keep(p) else None, tree)
    return np.concatenate(found).astype(np.float64)


def gram_of(batch, level, part="all"):
    params, table = parameters()
    rows = Small().gather(table, batch)
    if level == "representation":
        J = np.stack([vector(g) for g in rep_gradients(batch, params, rows)])
        return J @ J.T, J
    _, grads = by_hand(batch, params, rows, part)
    keep = (
        (lambda p: p.startswith("heads/trunk/"))
        if level == "last_shared"
        else (lambda p: not is_own(p))
    )
    J = np.stack(
        [
            np.concatenate([vector(g, keep), vector(r) if level == "shared" else []])
            for g, r in grads
        ]
    )
    return J @ J.T, J


@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("level", LEVELS)
def test_weights_are_those_of_the_gramian_of_the_mean_gradient(level, slices):
    batch = make_batch(1)
    gram, _ = gram_of(batch, level)
    expected = (
        balance.get("nash")
        .update(
            balance.Stats(jnp.ones(3), jnp.ones(3), jnp.int32(0), jnp.asarray(gram, jnp.float32)),
            (),
            None,
        )
        .weights
    )
    gradients, _, state = build("nash", config=config_of(level))
    found = gradients(state, make_batch(1, slices))
    np.testing.assert_allclose(found.update.weights, expected, rtol=2e-4)
    d = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(found.seen["norm"], d, rtol=1e-4)
    np.testing.assert_allclose(found.seen["cosine"], gram / np.outer(d, d), atol=1e-5)


@pytest.mark.parametrize(("slices", "heads"), [(1, "unit"), (1, "weighted"), (4, "unit")])
@pytest.mark.parametrize("level", LEVELS)
def test_the_update_is_the_weighted_sum_of_the_task_gradients(level, slices, heads):
    batch = make_batch(2)
    params, table = parameters()
    rows = Small().gather(table, batch)
    losses, grads = by_hand(batch, params, rows)
    gradients, _, state = build("upgrad", config=config_of(level, heads=heads))
    found = gradients(state, make_batch(2, slices))
    w = np.asarray(found.update.weights, np.float64)
    shared = sum(w[t] * vector(grads[t][0], lambda p: not is_own(p)) for t in range(3))
    np.testing.assert_allclose(
        vector(found.grads, lambda p: not is_own(p)), shared, rtol=1e-4, atol=1e-6
    )
    own_w = w if heads == "weighted" else np.ones(3)
    own = sum(own_w[t] * vector(grads[t][0], is_own) for t in range(3))
    np.testing.assert_allclose(vector(found.grads, is_own), own, rtol=1e-4, atol=1e-6)
    of_rows = sum(w[t] * vector(grads[t][1]) for t in range(3))
    np.testing.assert_allclose(vector(found.rows), of_rows, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.losses * np.array(ALPHA), losses, rtol=1e-5)


@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("name", ["gls", "imtl_l", "famo"])
def test_balancers_of_losses_take_one_pass_and_weigh_heads_too(name, slices):
    batch = make_batch(3)
    params, table = parameters()
    losses, grads = by_hand(batch, params, Small().gather(table, batch))
    gradients, _, state = build(name)
    found = gradients(state, make_batch(3, slices))
    b = balance.get(name)
    stats = balance.Stats(jnp.asarray(losses, jnp.float32), jnp.ones(3), jnp.int32(0))
    expected = np.asarray(b.update(stats, b.init(3), jax.random.PRNGKey(0)).weights)
    np.testing.assert_allclose(found.update.weights, expected, rtol=1e-5)
    total = sum(expected[t] * vector(grads[t][0]) for t in range(3))
    np.testing.assert_allclose(vector(found.grads), total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", ["last_shared", "shared"])
def test_two_halves_of_a_batch_give_the_cross_gramian(level):
    batch = make_batch(4)
    halves = [gram_of(batch, level, h)[1] for h in (0, 1)]
    cross = halves[0] @ halves[1].T
    b = balance.get("modo", gamma=0.05)
    stats = balance.Stats(
        jnp.ones(3), jnp.ones(3), jnp.int32(0), cross_gram=jnp.asarray(cross, jnp.float32)
    )
    expected = np.asarray(b.update(stats, b.init(3), None).weights)
    gradients, _, state = build("modo", (("gamma", 0.05),), config_of(level))
    found = gradients(state, batch)
    np.testing.assert_allclose(found.update.weights, expected, rtol=1e-4, atol=1e-6)
    params, table = parameters()
    _, grads = by_hand(batch, params, Small().gather(table, batch))
    shared = sum(expected[t] * vector(grads[t][0], lambda p: not is_own(p)) for t in range(3))
    np.testing.assert_allclose(
        vector(found.grads, lambda p: not is_own(p)), shared, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("name", ["moco", "db_mtl"])
@pytest.mark.parametrize("slices", [1, 4])
def test_balancers_that_remember_gradients_replace_the_update(name, slices):
    batch = make_batch(5)
    params, table = parameters()
    losses, grads = by_hand(batch, params, Small().gather(table, batch))
    J = [vector(g[0], lambda p: not is_own(p)) for g in grads]
    b = balance.get(name)
    tree = {"x": jnp.asarray(np.stack(J), jnp.float32)}
    stats = balance.Stats(jnp.asarray(losses, jnp.float32), jnp.ones(3), jnp.int32(0), grads=tree)
    expected = b.update(stats, b.init(3, {"x": tree["x"][0]}), None)
    gradients, _, state = build(name)
    found = gradients(state, make_batch(5, slices))
    got = vector(found.grads, lambda p: not is_own(p))
    np.testing.assert_allclose(got, expected.direction["x"], rtol=1e-3, atol=1e-6)
    rows = sum(float(expected.weights[t]) * vector(grads[t][1]) for t in range(3))
    np.testing.assert_allclose(vector(found.rows), rows, rtol=1e-3, atol=1e-6)


def test_gradvac_has_targets_and_weights_by_group():
    gradients, _, state = build("gradvac", (("groups", "matrix"),))
    assert state.balancer.shape == (3, 3, 3), "two shared arrays and the table's rows"
    batch = make_batch(6)
    found = gradients(state, batch)
    params, table = parameters()
    _, grads = by_hand(batch, params, Small().gather(table, batch))
    for n, keep in enumerate(
        [lambda p: p.startswith("heads/trunk"), lambda p: p.startswith("towers")]
    ):
        J = np.stack([vector(g[0], keep) for g in grads])
        weights = np.asarray(found.update.weights[n], np.float64)
        np.testing.assert_allclose(vector(found.grads, keep), weights @ J, rtol=1e-4, atol=1e-6)
    assert np.abs(found.update.weights[0] - found.update.weights[1]).max() > 1e-3


def test_gram_every_holds_the_weights_between_looks():
    _, step, state = build("nash", config=config_of(gram_every=3))
    seen = []
    for k in range(6):
        state, metrics = step(state, make_batch(k))
        seen.append(np.asarray(metrics["weights"]))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-6)
    np.testing.assert_allclose(seen[2], seen[0], rtol=1e-6)
    assert np.abs(seen[3] / seen[0] - 1).max() > 1e-2
    np.testing.assert_allclose(seen[5], seen[3], rtol=1e-6)


def test_held_weights_give_the_weighted_gradient():
    gradients, step, state = build("nash", config=config_of(gram_every=2))
    state, _ = step(state, make_batch(0))
    batch = make_batch(1)
    found = gradients(state, batch)
    rows = Small().gather(state.tables, batch)
    _, grads = by_hand(batch, state.params, rows)
    w = np.asarray(state.balancer.weights, np.float64)
    shared = sum(w[t] * vector(grads[t][0], lambda p: not is_own(p)) for t in range(3))
    np.testing.assert_allclose(
        vector(found.grads, lambda p: not is_own(p)), shared, rtol=1e-4, atol=1e-6
    )


def test_famo_looks_at_the_losses_after_the_update():
    _, step, state = build("famo")
    batch = make_batch(8)
    after, metrics = step(state, batch)
    before = by_hand(batch, state.params, Small().gather(state.tables, batch))[0]
    later = by_hand(batch, after.params, Small().gather(after.tables, batch))[0]
    b = balance.get("famo")
    stats = balance.Stats(
        jnp.asarray(before, jnp.float32),
        jnp.ones(3),
        jnp.int32(0),
        losses_after=jnp.asarray(later, jnp.float32),
    )
    np.testing.assert_allclose(
        after.balancer["w"], b.update(stats, b.init(3), None).state["w"], rtol=1e-3, atol=1e-5
    )
    assert np.abs(after.balancer["w"]).max() > 1e-3
    np.testing.assert_allclose(
        metrics["loss_sum"] / metrics["count"] * np.array(ALPHA), before, rtol=1e-5
    )


# One of each need; what all of them do is in tests/balance.
ALL = ["uw", "gls", "famo", "nash", "upgrad", "gradvac", "modo", "moco", "graddrop"]


@pytest.mark.parametrize("name", ALL)
def test_a_task_without_rows_moves_nothing_of_its_own(name):
    _, step, state = build(name)
    state, _ = step(state, make_batch(1))
    batch = make_batch(9)
    batch["mask/b"][:] = 0
    batch["label/b"][:] = np.nan
    after, metrics = step(state, batch)
    assert metrics["finite"]
    assert metrics["weights"][1] == 0
    np.testing.assert_array_equal(
        after.params["heads"]["head_b"]["w"], state.params["heads"]["head_b"]["w"]
    )
    assert np.isfinite(vector(after.params)).all()


@pytest.mark.parametrize("name", ["nash", "moco"])
def test_a_non_finite_update_leaves_the_balancer_as_it_was(name):
    _, step, state = build(name)
    state, _ = step(state, make_batch(1))
    bad = make_batch(2)
    bad["mask/b"][:] = 1
    bad["label/b"][0, 0, 0] = np.inf
    after, metrics = step(state, bad)
    assert not metrics["finite"]
    for old, new in zip(
        jax.tree.leaves(state.balancer), jax.tree.leaves(after.balancer), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(vector(after.params), vector(state.params))


@pytest.mark.parametrize(
    ("name", "config", "slices", "match"),
    [
        ("modo", config_of("representation"), 1, "halves of a batch"),
        ("moco", config_of("last_shared"), 1, "remembers gradients"),
        ("graddrop", config_of("last_shared"), 1, "entry by entry"),
        ("graddrop", config_of("representation"), 2, "batch.accumulate=1"),
        ("moco", config_of(gram_every=2), 1, "gram_every=2"),
        ("nash", config_of(gram_every=0), 1, "must be 1 or more"),
        ("nash", BalanceConfig(level="last_shared", last_shared="^nothing/"), 1, "names no shared"),
    ],
)
def test_what_a_balancer_cannot_do_is_refused(name, config, slices, match):
    gradients, _, state = build(name, config=config)
    with pytest.raises(UserError, match=match):
        gradients(state, make_batch(1, slices))


def test_groups_need_all_shared_parameters():
    config = config_of("representation")
    gradients, _, state = build("gradvac", (("groups", "layer"),), config)
    with pytest.raises(UserError, match="level 'shared'"):
        gradients(state, make_batch(1))


def test_graddrop_at_the_representation_is_not_the_sum():
    gradients, _, state = build("graddrop", config=config_of("representation"))
    found = gradients(state, make_batch(3))
    plain, _, other = build("ew", alpha=ALPHA)
    assert np.abs(vector(found.grads) - vector(plain(other, make_batch(3)).grads)).max() > 1e-3


@pytest.mark.parametrize("name", ["nash", "mgda", "famo"])
def test_a_task_of_weight_0_has_no_part_in_balancing(name):
    gradients, _, state = build(name, alpha=(1.0, 0.0, 2.0))
    found = gradients(state, make_batch(4))
    weights = np.asarray(found.update.weights)
    assert weights[1] == 0.0
    assert (weights[[0, 2]] > 0).all()
    np.testing.assert_array_equal(found.grads["heads"]["head_b"]["w"], 0.0)


def test_heads_that_a_chain_goes_through_are_shared():
    assert is_own("heads/head_click/out/kernel")
    assert is_own("heads/trunk/task_click/kernel")
    assert not is_own("heads/trunk/layer_0/kernel")
    assert not is_own("towers/item/kernel")
    assert not is_own("heads/head_click/out/kernel", reached=("click",))
    assert is_own("heads/head_purchase/out/kernel", reached=("click",))
