"""Settings of all tests: one cache of compiled programs for a whole session, and offline."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl_jax.core.xla import keep_loops
from runs import Tiny, Zygote, make_tiny

os.environ.setdefault("HF_HUB_OFFLINE", "1")
keep_loops()  # as scripts do
# Compiling costs more than all else here. The workers of one session share what they compiled.
_SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
CACHE = Path(tempfile.gettempdir()) / f"mtl_jax-compiled-{_SESSION}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of the session see."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (folder / "shared").mkdir(exist_ok=True)
    return folder / "shared"


@pytest.fixture(scope="session")
def zygote(shared_folder: Path) -> Iterator[Zygote]:
    found = Zygote(shared_folder)
    yield found
    found.close()


@pytest.fixture(scope="session")
def tiny(shared_folder: Path, zygote: Zygote) -> Tiny:
    """The tiny run, trained to its end without a break."""
    return make_tiny(shared_folder, zygote)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For tests that wait for the compiler and not for the result."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
