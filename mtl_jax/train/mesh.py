"""The mesh and the one rule table that places arrays on it.

Axes: `data` has copies of everything and its own rows of the batch; `fsdp` has its own rows of the
batch too and splits parameters, moments and tables; `tensor` splits the encoder's layers (Megatron,
arXiv:1909.08053) and `expert` the experts of a mixture, both with the same rows on all devices.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax.core.errors import UserError
from mtl_jax.core.names import nearest
from mtl_jax.core.placement import BATCH, ambient
from mtl_jax.core.trees import first_match, map_by_path, path_of

AXES = ("data", "fsdp", "tensor", "expert")
ROWS = "fsdp"  # the axis over which the rows of embedding tables are spread

# Pattern on a path in the state -> choices. The first one counts whose axes divide the dimensions
# on which they lie; where none does the parameter is refused by name. Adam's moments have their
# parameter's path behind their own (opt/0/mu/encoder/...) and so its place.
RULES: tuple[tuple[str, tuple[P, ...]], ...] = (
    ("^balancer(/|$)", (P(),)),
    ("^(tables|table_opt)/", (P(ROWS),)),
    (
        r"encoder/layer_\d+/(query|key|value|ffn_in)/kernel$",
        (P("fsdp", "tensor"), P(None, "tensor")),
    ),
    (r"encoder/layer_\d+/(query|key|value|ffn_in)/bias$", (P("tensor"),)),
    (r"encoder/layer_\d+/(attention_out|ffn_out)/kernel$", (P("tensor", "fsdp"), P("tensor"))),
    # A vocabulary that does not divide stays whole over tensor.
    (
        "encoder/embeddings/word$",
        (P("tensor", "fsdp"), P("tensor"), P(None, "fsdp"), P("fsdp"), P()),
    ),
    # Experts whose number does not divide stay whole over expert.
    (
        r"/experts/layer_\d+/kernel$",
        (P("expert", "fsdp"), P("expert", None, "fsdp"), P("expert"), P(None, "fsdp"), P()),
    ),
    (r"/experts/(layer|norm)_\d+/(bias|scale)$", (P("expert"), P())),
    ("(kernel|embedding|position)$", (P("fsdp"), P(None, "fsdp"), P(None, None, "fsdp"), P())),
    (".*", (P(),)),
)


def axis_sizes(spec: int | str, devices: int) -> dict[str, int]:
    """Size of each axis: devices of `data` (0 = all), or "data=4,fsdp=2"; `data` left out takes
    what the others leave.

    Raises UserError: unknown axes, no numbers, more devices than there are, or a number of them
    that does not divide these.
    """
    if isinstance(spec, str) and spec.isdigit():
        spec = int(spec)
    if isinstance(spec, int):
        if not 0 <= spec <= devices:
            raise UserError(f"train.mesh={spec}: there are {devices} devices")
        return {**dict.fromkeys(AXES, 1), "data": spec or devices}
    flag, sizes = f"--mesh={spec} (train.mesh)", {}
    for part in spec.split(","):
        name, _, size = (x.strip() for x in part.partition("="))
        if name not in AXES:
            raise UserError(f"{flag}: there is no axis {name!r}. {nearest(name, AXES)}")
        if name in sizes or not size.isdigit() or not int(size):
            raise UserError(f"{flag}: {part!r}: write each axis once, as in data=4,fsdp=2")
        sizes[name] = int(size)
    n = math.prod(sizes.values())
    if n > devices:
        raise UserError(f"{flag}: it takes {n} devices, there are {devices}")
    if devices % n:
        raise UserError(f"{flag}: {n} devices do not divide the {devices} that there are")
    return {**dict.fromkeys(AXES, 1), "data": devices // n, **sizes}


def make_mesh(spec: int | str = 0) -> Mesh:
    """A mesh with all `AXES` over devices of all processes; see `axis_sizes`.

    Neighbouring devices share `expert` and `tensor`, which talk most; `data` spans hosts first.
    """
    devices = jax.devices()
    sizes = axis_sizes(spec, len(devices))
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    shape = tuple(sizes[a] for a in AXES)
    return jax.make_mesh(shape, AXES, axis_types=auto, devices=devices[: math.prod(shape)])


def check_heads(mesh: Mesh, heads: int) -> None:
    """UserError where `tensor` would cut through the encoder's attention heads."""
    if heads % mesh.shape["tensor"]:
        raise UserError(
            f"--mesh: tensor={mesh.shape['tensor']} does not divide the encoder's {heads} heads"
        )


def batch_devices(mesh: Mesh) -> int:
    """Groups of devices that have rows of their own: data x fsdp."""
    return math.prod(mesh.shape[a] for a in BATCH)


def spec_of(path: str, shape: tuple[int, ...], sizes: Mapping[str, int]) -> P:
    """The place of an array by `RULES`. UserError naming it where no choice divides it."""
    choices = first_match(RULES, path)
    for choice in choices:
        if len(choice) <= len(shape) and all(
            n % _ways(axes, sizes) == 0 for n, axes in zip(shape, choice, strict=False)
        ):
            return choice
    asked = ", ".join(f"{a}={n}" for a, n in sizes.items() if n > 1)
    raise UserError(
        f"--mesh with {asked}: {path} {list(shape)} cannot be split over it "
        f"({' or '.join(map(str, choices))}): use a size that divides its dimensions"
    )


def state_sharding(mesh: Mesh, abstract_state: Any) -> Any:
    """A sharding for every leaf of the state, by `RULES`.

    Raises UserError where a leaf cannot be split, or where an axis would split nothing at all.
    """
    found = map_by_path(
        lambda p, x: NamedSharding(mesh, spec_of(p, x.shape, mesh.shape)), abstract_state
    )
    used = {a for s in jax.tree.leaves(found) for axes in s.spec for a in _names(axes)}
    for axis in ("tensor", "expert"):
        if mesh.shape[axis] > 1 and axis not in used:
            need = {"tensor": "a trained encoder", "expert": "a trunk of experts that it divides"}
            raise UserError(
                f"--mesh: {axis}={mesh.shape[axis]} splits nothing here: it needs {need[axis]}"
            )
    return found


def pad_tables(mesh: Mesh, tables: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Tables with rows of zeros behind the last, up to a multiple of what they are spread over.

    No batch names such a row: ids beyond the table, which pad a batch's list, read the zeros and
    have no gradient, so that moments and rows stay zero.
    """
    n = mesh.shape[ROWS]
    return {k: jnp.pad(v, ((0, -v.shape[0] % n), (0, 0))) for k, v in tables.items()}


def for_use(params: Any) -> Any:
    """Parameters as the forward and backward pass want them: gathered over `fsdp`."""
    return _placed(params, gathered=True)


def for_update(grads: Any) -> Any:
    """Gradients as the parameters and moments lie, so that a device updates what it holds.

    First summed as the parameters were used: asked for in parts at once, a gradient would have
    the activations that it is made of split like it.
    """
    return _placed(_placed(grads, gathered=True), gathered=False)


def _placed(tree: Any, gathered: bool) -> Any:
    mesh = ambient()
    if mesh is None:
        return tree

    def place(path: str, x: Any) -> Any:
        spec = spec_of(path, x.shape, mesh.shape)
        if gathered:
            spec = P(*(tuple(a for a in _names(axes) if a != "fsdp") or None for axes in spec))
        return jax.lax.with_sharding_constraint(x, spec)

    return map_by_path(place, tree)


def by_rows(update: Callable[..., Any]) -> Callable[..., Any]:
    """`update(tables, state, grads, ids, *scalars) -> (tables, state)` on the rows that each device
    holds, without a word to the others; ids of rows that it has not lie beyond its part.
    """

    def on_part(tables: Any, state: Any, grads: Any, ids: Any, *scalars: Any) -> Any:
        at, far = jax.lax.axis_index(ROWS), 1 << 30  # distinct ids stay distinct

        def mine(table: jax.Array, index: jax.Array) -> jax.Array:
            local = index - at * table.shape[0]
            return jnp.where(local < 0, local + far, local)

        own = {k: mine(tables[k], index) for k, index in ids.items()}
        return update(tables, state, grads, own, *scalars)

    def anywhere(*args: Any) -> Any:
        mesh = ambient()
        if mesh is None or mesh.shape[ROWS] == 1:
            return update(*args)
        specs = (P(ROWS), P(ROWS), *(P() for _ in args[2:]))
        return jax.shard_map(on_part, in_specs=specs, out_specs=(P(ROWS), P(ROWS)))(*args)

    return anywhere


def batch_sharding(mesh: Mesh, keys: Iterable[str]) -> dict[str, NamedSharding]:
    """Where a batch's arrays lie: [A, S, ...] (S over data x fsdp), `uniq/<table>` [S, R / S]."""
    by_row = NamedSharding(mesh, P(None, BATCH))
    by_shard = NamedSharding(mesh, P(BATCH))
    return {k: by_shard if k.startswith("uniq/") else by_row for k in keys}


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The batch on the mesh: data shards over data x fsdp."""
    place = batch_sharding(mesh, batch)
    if replicated(mesh).is_fully_addressable:
        return jax.device_put(batch, place)
    # Every process has the whole batch and gives the shards of its own devices.
    return {
        k: jax.make_array_from_callback(v.shape, place[k], v.__getitem__) for k, v in batch.items()
    }


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device, and so readable by every process."""
    return NamedSharding(mesh, P())


def device_bytes(abstract_state: Any, shardings: Any) -> dict[str, tuple[int, int]]:
    """Bytes of the parts of the state, {part: (all of it, what one device holds of it)}."""
    found: dict[str, tuple[int, int]] = {}
    leaves = jax.tree_util.tree_flatten_with_path(abstract_state)[0]
    for (path, x), s in zip(leaves, jax.tree.leaves(shardings), strict=True):
        part = path_of(path).split("/")[0]
        held = math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize
        total, each = found.get(part, (0, 0))
        found[part] = (total + x.size * x.dtype.itemsize, each + held)
    return found


def told(mesh: Mesh, parts: Mapping[str, tuple[int, int]]) -> str:
    """`device_bytes` in words, for the log."""
    axes = ", ".join(f"{a}={n}" for a, n in mesh.shape.items() if n > 1)
    lines = [f"mesh {axes}: MB of the state, and of it on each device"]
    every = {**parts, "all": tuple(map(sum, zip(*parts.values(), strict=True)))}
    lines += [f"  {k:10} {a / 1e6:10.2f} {b / 1e6:10.2f}" for k, (a, b) in every.items() if a > 64]
    return "\n".join(lines)


def _names(axes: Any) -> tuple[str, ...]:
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def _ways(axes: Any, sizes: Mapping[str, int]) -> int:
    return math.prod(sizes[a] for a in _names(axes))
