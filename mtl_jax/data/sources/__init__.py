"""Sources of raw data by name: loader(folder, **options) -> RawData."""

from collections.abc import Callable, Mapping

from mtl_jax.data.schema import RawData
from mtl_jax.data.sources.amazon_reviews import load_amazon_reviews
from mtl_jax.data.sources.census import load_census
from mtl_jax.data.sources.chinese_reviews import load_chinese_reviews
from mtl_jax.data.sources.collm import load_collm
from mtl_jax.data.sources.kuairand import load_kuairand
from mtl_jax.data.sources.movielens import load_movielens
from mtl_jax.data.sources.movielens_later import load_movielens_1m, load_movielens_latest
from mtl_jax.data.sources.scientific import load_scientific
from mtl_jax.data.sources.tables import load_tables
from mtl_jax.data.sources.world import load_world

SOURCES: Mapping[str, Callable[..., RawData]] = {
    "world": load_world,
    "ml100k": load_movielens,
    "ml1m": load_movielens_1m,
    "ml1m_collm": load_collm,
    "ml_latest": load_movielens_latest,
    "amazon_reviews": load_amazon_reviews,
    "amazon_scientific": load_scientific,
    "zh_reviews": load_chinese_reviews,
    "census": load_census,
    "kuairand": load_kuairand,
    "tables": load_tables,
}
