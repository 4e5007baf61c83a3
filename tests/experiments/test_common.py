"""Where scripts keep what they compile."""

import ctypes
import subprocess
import sys

import pytest
from absl.testing import flagsaver

from experiments import common
from mtl_jax.core.errors import UserError
from mtl_jax.train import compilation_cache


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What JAX is told; the user's cache folder is under tmp_path, JAX's own is not set."""
    found = {}
    monkeypatch.setattr("jax.config.update", found.__setitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    if not common.flags.FLAGS.is_parsed():
        common.flags.FLAGS(["test"])
    return found


def test_by_default_it_is_the_users_cache_folder(told, tmp_path):
    common.use_compilation_cache()
    assert told["jax_compilation_cache_dir"] == str(tmp_path / "cache" / "mtl_jax" / "xla")
    assert told["jax_compilation_cache_max_size"] == compilation_cache.LIMIT


def test_the_flag_names_another_or_none(told, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    common.use_compilation_cache()
    assert told == {}, "JAX's own setting is left alone"
    for name in ("off", ""):
        with flagsaver.flagsaver(compilation_cache=name):
            common.use_compilation_cache()
        assert told == {"jax_enable_compilation_cache": False}
    with flagsaver.flagsaver(compilation_cache=str(tmp_path / "mine")):
        common.use_compilation_cache()
    assert told["jax_compilation_cache_dir"] == str(tmp_path / "mine")


def test_a_folder_that_cannot_be_written(told, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        flagsaver.flagsaver(compilation_cache=str(tmp_path / "file" / "x")),
        pytest.raises(UserError, match=r"--compilation_cache=.*file/x: cannot be written"),
    ):
        common.use_compilation_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    common.use_compilation_cache()
    assert told == {}, "without a home there is no cache, and the script runs"


ARENAS = """
import ctypes, threading
import experiments.common
thread = threading.Thread(target=lambda: bytearray(100_000))
thread.start()
thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_a_script_keeps_its_memory_from_the_first_thread_on():
    def arenas(*options):  # python reads the program from its input, behind a script with -i -m
        command = [sys.executable, *options]
        done = subprocess.run(command, input=ARENAS, capture_output=True, text=True, check=True)
        return done.stdout.count("<heap nr=")

    assert arenas("-i", "-m", "experiments.common") == 1
    assert arenas("-") == 2
