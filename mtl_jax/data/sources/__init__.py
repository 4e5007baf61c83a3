"""Sources of raw data by name: loader(folder, **options) -> RawData."""

from collections.abc import Callable, Mapping

from mtl_jax.data.schema import RawData
from mtl_jax.data.sources.collm import load_collm
from mtl_jax.data.sources.movielens import load_movielens
from mtl_jax.data.sources.world import load_world

SOURCES: Mapping[str, Callable[..., RawData]] = {
    "world": load_world,
    "ml100k": load_movielens,
    "ml1m_collm": load_collm,
}
