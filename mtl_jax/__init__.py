"""mtl_jax: multi-task recommenders driven by a pretrained language model, in JAX and Flax."""

__version__ = "0.1.0"
