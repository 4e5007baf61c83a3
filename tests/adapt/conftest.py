import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests that wait for the compiler and not for the result."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
