"""Options of XLA's CPU backend, which can be given by its environment variable alone."""

import os

NAME = "xla_backend_extra_options"
LOOPS = f"--{NAME}=xla_cpu_disable_loop_unrolling"


def keep_loops() -> None:
    """Loops of compiled CPU code stay loops; call it before the first computation.

    LLVM unrolls a loop over up to 72 numbers before it would make vectors of it, and what is left
    are as many moves of one number: rows of tables were gathered at a quarter of the speed. Where
    XLA_FLAGS has such options already, they stand. GPUs and TPUs do not read them.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if NAME not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {LOOPS}".strip()
