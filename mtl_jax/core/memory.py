"""How the C library keeps memory between steps; matters where the CPU is the accelerator."""

import ctypes
import sys

# Of malloc.h. glibc's own dynamic threshold ends at 32 MiB, and what a thread's arena cannot hold
# (64 MiB) comes from mmap whatever M_MMAP_MAX says: hence one arena.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
TOP_PAD = 64 << 20  # bytes asked of the system at a time

# The same as environment variables, for processes that are started.
ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(TOP_PAD),
}


def keep_freed_memory() -> bool:
    """Freed memory stays with the process; call it before the first computation.

    XLA's CPU backend allocates a step's temporaries anew in every step. Blocks above 32 MiB come
    from mmap in glibc and go back to the system when freed, so each step pays for every page
    again: up to two fifths of a step. Peak memory is the same, it is only not given back.

    Returns:
      Whether it took effect: False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = (
        (M_TRIM_THRESHOLD, -1), (M_MMAP_MAX, 0), (M_ARENA_MAX, 1), (M_TOP_PAD, TOP_PAD)
    )  # fmt: skip
    return all([mallopt(name, value) == 1 for name, value in wanted])
