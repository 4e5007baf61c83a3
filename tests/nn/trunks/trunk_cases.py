"""Small trunks with drawn parameters, run once each; and the same sums in plain numpy."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.core.task_spec import TaskSpec
from mtl_jax.core.trees import count, map_by_path, paths
from mtl_jax.nn.config import ModelConfig
from mtl_jax.nn.model import per_shard
from mtl_jax.nn.towers import PENALTIES, Heads, LabelStats
from mtl_jax.tasks.task import loss_sums

S, B, DZ = 2, 5, 6
TASKS = (
    TaskSpec("click", "binary", "click"),
    TaskSpec("purchase", "binary", "purchase"),
    TaskSpec("rating", "regression", "rating", low=1.0, high=5.0),
    TaskSpec("kind", "multiclass", "kind", classes=3),
)
NAMES = tuple(t.name for t in TASKS)
LABELS = {"click": LabelStats(-0.5), "purchase": LabelStats(-0.9), "rating": LabelStats(3.0, 1.0)}
Z = np.random.default_rng(5).normal(size=(S, B, DZ)).astype(np.float32)
# The results of unoptimised code are as good here.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def config(trunk: str, **options: Any) -> ModelConfig:
    """Three experts (no power of two), bare heads, no dropout."""
    small: dict[str, Any] = {
        "trunk_widths": (4, 3),
        "head_width": 0,
        "wide": False,
        "dropout": 0.0,
        "experts": 3,
        "shared_experts": 1,
        "gate_temperature": 0.7,
        "step_width": 4.0,
        "chain": ("click", "purchase"),
    }
    return ModelConfig(trunk=trunk, **(small | options))


def heads_of(c: ModelConfig, tasks: Any = TASKS) -> Heads:
    return Heads(c, tasks, LABELS)


def shapes_of(c: ModelConfig, tasks: Any = TASKS) -> Any:
    """Shapes of the parameters; nothing is computed."""
    keys = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
    rep = {"z": jnp.zeros((B, DZ))}
    return jax.eval_shape(lambda: heads_of(c, tasks).init(keys, rep, True))["params"]


def drawn(c: ModelConfig, tasks: Any = TASKS) -> Any:
    """Parameters without a zero among them."""
    rng = np.random.default_rng(1)

    def one(path: str, x: Any) -> Any:
        near = 1.0 if path.endswith("scale") and "norm" in path else 0.0
        if path == "head_click/out/bias":  # so that some purchases are likelier than their clicks
            near = -0.4
        return jnp.asarray(rng.normal(near, 0.5, x.shape), jnp.float32)

    return map_by_path(one, shapes_of(c, tasks))


def forward(c: ModelConfig, params: Any, z: Any, deterministic: bool, tasks: Any = TASKS) -> Any:
    """Outputs over shards, as `Model.predict` makes them."""

    def one(rep: Any, key: Any) -> Any:
        rngs = {"dropout": key}
        return heads_of(c, tasks).apply({"params": params}, rep, deterministic, rngs=rngs)

    return per_shard(one, {"z": jnp.asarray(z)}, jax.random.split(jax.random.PRNGKey(3), len(z)))


@dataclass(frozen=True)
class Case:
    """What one trunk gives; grads: d sum_s,b <w, output_t> / d parameters, [T, ...] each leaf."""

    config: ModelConfig
    params: Any
    out: Any
    trained: Any
    grads: Any
    penalty_grads: Any

    def trunk(self) -> Any:
        return jax.tree.map(np.asarray, self.params["trunk"])

    def reached(self) -> dict[str, set[str]]:
        """{path: the tasks whose outputs' gradient reaches it}."""
        return reached(self.grads)


def reached(grads: Any) -> dict[str, set[str]]:
    found = zip(paths(grads), jax.tree.leaves(grads), strict=True)
    return {p: {t for t, g in zip(NAMES, x, strict=True) if np.any(g)} for p, x in found}


@lru_cache
def case(trunk: str) -> Case:
    c = config(trunk)
    params = drawn(c)

    def each(p: Any) -> Any:
        out = forward(c, p, Z, True)
        rng = np.random.default_rng(7)
        return jnp.stack([jnp.sum(out[t] * rng.normal(size=out[t].shape)) for t in NAMES])

    def penalties(p: Any) -> Any:
        found = forward(c, p, Z, False)[PENALTIES]
        return jnp.stack([jnp.sum(found[t]) if t in found else jnp.zeros(()) for t in NAMES])

    def run(p: Any) -> Any:
        both = forward(c, p, Z, True), forward(c, p, Z, False)
        return *both, jax.jacrev(each)(p), jax.jacrev(penalties)(p)

    found = jax.jit(run, compiler_options=FAST)(params)
    return Case(c, params, *jax.tree.map(np.asarray, found))


# In plain numpy, float64.
def gelu(x: Any) -> Any:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(p: Any, x: Any) -> Any:
    return x @ p["kernel"].astype(np.float64) + p.get("bias", 0.0)


def stack(p: Any, x: Any) -> Any:
    """Dense, gelu, LayerNorm for layer_0, layer_1, ..."""
    for n in range(sum(k.startswith("layer_") for k in p)):
        x = gelu(dense(p[f"layer_{n}"], x))
        norm = p[f"norm_{n}"]
        centred = x - x.mean(-1, keepdims=True)
        x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        x = x * norm["scale"] + norm["bias"]
    return x


def each_of(p: Any, x: Any) -> list[Any]:
    """Every expert of stacked parameters, one after the other."""
    n = p["layer_0"]["kernel"].shape[0]
    return [stack(jax.tree.map(lambda v: v[e], p), x) for e in range(n)]  # noqa: B023


def gate(p: Any, x: Any, temperature: float = 0.7) -> Any:
    return softmax(x @ p["gate"]["logits"]["kernel"] / temperature)


def mixed(weights: Any, experts: list[Any]) -> Any:
    return sum(weights[..., [e]] * f for e, f in enumerate(experts))


def head(found: Any, task: str, x: Any) -> Any:
    """The task's output from its features [S, B, F]."""
    y = dense(jax.tree.map(np.asarray, found.params[f"head_{task}"]["out"]), x)
    if task == "kind":
        return y
    y = y[..., 0] + LABELS[task].mean
    return 1.0 + 4.0 * sigmoid(y - 3.0) if task == "rating" else y


def assert_outputs(found: Case, features: dict[str, Any]) -> None:
    """The trunk's outputs are the heads' over these features, in both modes."""
    assert set(features) == set(NAMES)
    for task, x in features.items():
        expected = head(found, task, x)
        for out in (found.out, found.trained):
            np.testing.assert_allclose(out[task], expected, rtol=2e-4, atol=2e-5, err_msg=task)


def stack_size(d: int, widths: tuple[int, ...] = (4, 3)) -> int:
    """Parameters of a stack over d inputs: kernel, bias, and scale and bias of the norm."""
    return sum(a * b + 3 * b for a, b in zip((d, *widths), widths, strict=False))


def trunk_size(c: ModelConfig) -> int:
    return count(shapes_of(c)["trunk"])


def train(
    c: ModelConfig,
    tasks: tuple[TaskSpec, ...],
    z: Any,
    labels: dict[str, Any],
    steps: int,
    rate: float = 0.02,
) -> Any:
    """(parameters, outputs) after `steps` full-batch Adam steps on the sum of the tasks' means."""
    z = jnp.asarray(z, jnp.float32)[None]
    batch = {f"label/{t.name}": jnp.asarray(labels[t.name], jnp.float32)[None] for t in tasks}
    batch |= {f"mask/{t.name}": jnp.ones(z.shape[:2]) for t in tasks}
    tx = optax.adam(rate)

    def loss(p: Any) -> Any:
        sums, counts = loss_sums(tasks, forward(c, p, z, False, tasks), batch)
        return jnp.sum(sums / counts)

    def step(carry: Any, _: Any) -> Any:
        p, opt = carry
        updates, opt = tx.update(jax.grad(loss)(p), opt)
        return (optax.apply_updates(p, updates), opt), None

    @jax.jit
    def run(key: Any) -> Any:
        keys = {"params": key, "dropout": key}
        p = heads_of(c, tasks).init(keys, {"z": z[0]}, True)["params"]
        (p, _), _ = jax.lax.scan(step, (p, tx.init(p)), None, length=steps)
        return p, forward(c, p, z, True, tasks)

    return jax.tree.map(np.asarray, run(jax.random.PRNGKey(0)))
