"""Rows are copied by vectors; what a program asks of the compiler."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mtl_jax.core import xla
from mtl_jax.core.xla import LIBRARY, LOOPS, keep_loops

GATHER = """
import sys
import jax, jax.numpy as jnp
from mtl_jax.core.xla import keep_loops
if sys.argv[1] == "keep":
    keep_loops()
rows = jax.ShapeDtypeStruct((500, 64), jnp.float32), jax.ShapeDtypeStruct((40,), jnp.int32)
jax.jit(lambda x, at: x.at[at].get(mode="clip")).lower(*rows).compile()
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="LLVM's limits are the target's")
@pytest.mark.parametrize(("how", "vectors"), [("keep", True), ("leave", False)])
def test_rows_are_gathered_by_vectors(tmp_path: Path, how: str, vectors: bool) -> None:
    flags = {"XLA_FLAGS": f"--xla_dump_to={tmp_path}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", GATHER, how]
    subprocess.run(command, env={**os.environ, **flags}, capture_output=True, check=True)
    (code,) = tmp_path.glob("*gather*ir-with-opt.ll")
    assert ("x float>" in code.read_text()) == vectors, "does XLA still unroll? see core/xla.py"


def test_what_the_user_said_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, wanted in (
        ("", LOOPS),
        ("--xla_dump_to=x", f"--xla_dump_to=x {LOOPS}"),
        (LOOPS, LOOPS),
        ("--xla_backend_extra_options=a=1", "--xla_backend_extra_options=a=1"),
    ):
        monkeypatch.setenv("XLA_FLAGS", given)
        keep_loops()
        assert os.environ["XLA_FLAGS"] == wanted


@pytest.mark.parametrize(
    ("flags", "asked", "wanted"),
    [
        ("fma avx2", "", {LIBRARY: ""}),
        ("fma avx2 avx512f", "", None),
        ("neon", "", None),
        ("fma avx2", f"--{LIBRARY}=LIBRARY_FUSION_TYPE_DOT", None),
    ],
)
def test_long_products_leave_the_library_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flags: str,
    asked: str,
    wanted: dict[str, str] | None,
) -> None:
    (tmp_path / "info").write_text(f"model name : x\nflags : {flags}\n")
    monkeypatch.setattr(xla, "INFO", tmp_path / "info")
    monkeypatch.setenv("XLA_FLAGS", asked)
    assert xla.for_long_products(xla.MANY) == wanted
    assert xla.for_long_products(xla.MANY - 1) is None


def test_the_option_is_known_to_the_compiler() -> None:
    x = jax.ShapeDtypeStruct((512, 384), "float32"), jax.ShapeDtypeStruct((384, 384), "float32")
    made = jax.jit(jnp.matmul).lower(*x)
    assert "ynn_fusion" in made.compile().as_text(), "does XLA still use it? see core/xla.py"
    assert "ynn_fusion" not in made.compile({LIBRARY: ""}).as_text()
