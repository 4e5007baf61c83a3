"""Where arrays lie on the mesh that the program being traced runs on; nothing on one device.

`mesh` names it while a step is traced. Parameters are placed by the rules of `mtl_jax.train.mesh`;
here is what the model and the losses say of activations: they lie by data shard, or whole.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

BATCH = ("data", "fsdp")  # axes over which the data shards of a batch are spread
F = TypeVar("F", bound=Callable[..., Any])


def on_mesh(mesh: Mesh, f: F) -> F:
    """`f`, traced as a program of `mesh`. Of one device: `f` itself, the same bits as ever."""
    if mesh.size == 1:
        return f

    @wraps(f)
    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return f(*args)

    return traced  # type: ignore[return-value]


def ambient() -> AbstractMesh | None:
    """The mesh of the program that is being traced, None where it has none or is one device's."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.are_all_axes_manual else mesh


def by_shard(tree: Any) -> Any:
    """Arrays [S, ...], each data shard on the devices that have its rows."""
    return _constrained(tree, P(BATCH))


def whole(tree: Any) -> Any:
    """Arrays that every device has all of."""
    return _constrained(tree, P())


def _constrained(tree: Any, spec: P) -> Any:
    if ambient() is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, spec), tree)
