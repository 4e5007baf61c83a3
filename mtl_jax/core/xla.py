"""Options of XLA's CPU backend: some by its environment variable alone, some for one program."""

import os
from pathlib import Path

import jax

NAME = "xla_backend_extra_options"
LOOPS = f"--{NAME}=xla_cpu_disable_loop_unrolling"
MANY = 4096  # rows of a product from which Eigen was the faster one
INFO = Path("/proc/cpuinfo")
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def keep_loops() -> None:
    """Loops of compiled CPU code stay loops; call it before the first computation.

    LLVM unrolls a loop over up to 72 numbers before it would make vectors of it, and what is left
    are as many moves of one number: rows of tables were gathered at a quarter of the speed. Where
    XLA_FLAGS has such options already, they stand. GPUs and TPUs do not read them.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if NAME not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {LOOPS}".strip()


def for_long_products(rows: int) -> dict[str, str | bool] | None:
    """Compiler options of a program whose time goes into products of so many rows at once.

    XLA gives products and sums to YNNPACK. Without AVX-512 such products are a tenth to a quarter
    slower there than Eigen's, and a training step of MiniLM's top layer on 9,800 tokens takes .8 of
    the time without it. Small steps, and batches by slices of 1,024 tokens, are faster with it.

    Returns:
      None leaves XLA's own: on other devices, and where XLA_FLAGS speak of it.
    """
    asked = LIBRARY in os.environ.get("XLA_FLAGS", "")
    if rows < MANY or jax.default_backend() != "cpu" or asked or not _avx2_alone():
        return None
    return {LIBRARY: ""}


def _avx2_alone() -> bool:
    if not INFO.is_file():
        return False
    lines = INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx2" in flags and "avx512f" not in flags
