"""How the C library keeps memory between steps; matters where the CPU is the accelerator."""

import ctypes
import os
import sys

# Of malloc.h. glibc's own dynamic threshold ends at 32 MiB, and what a thread's arena cannot hold
# (64 MiB) comes from mmap whatever M_MMAP_MAX says: hence one arena.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8
TOP_PAD = 64 << 20  # bytes asked of the system at a time
LARGE = 16  # a block of this part of the machine's memory is not kept
HEAP = 4  # the part of the machine's memory for which addresses are reserved
MADV_HUGEPAGE, HUGE = 14, 2 << 20  # of mman.h; bytes of a large page

# The same as environment variables, for processes that are started.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(TOP_PAD),
}


def keep_freed_memory() -> bool:
    """Freed memory stays with the process; call it before anything makes a thread.

    A thread allocates from an arena of its own, if there may be several, and keeps it: importing
    jax and polars makes four. Scripts call it first of all (`experiments/__init__.py`).

    XLA's CPU backend allocates a step's temporaries anew in every step. Blocks above 32 MiB come
    from mmap in glibc and go back to the system when freed, so each step pays for every page
    again: up to two fifths of a step. What is kept may lie in pieces that the next block does not
    fit into, which is paid for where the block is small: see `give_back_large`. After compiling,
    call `mtl_jax.core.pieces.give_back_pieces`, as training does.

    The heap's addresses are reserved at once and the kernel is asked for pages of 2 MiB there,
    which it gives where /sys/kernel/mm/transparent_hugepage/enabled is madvise or always: a tenth
    of a step again. Nothing is used before it is written to.

    Returns:
      Whether it took effect: False where the C library is not glibc.
    """
    kept = _set((M_TRIM_THRESHOLD, -1), (M_MMAP_MAX, 0), (M_ARENA_MAX, 1), (M_TOP_PAD, TOP_PAD))
    if kept:
        reserve()
    return kept


def give_back_large(block: int) -> bool:
    """Where blocks of so many bytes are large, those above 32 MiB go back to the system again.

    Held, each may stand two or three times: a step of 5.5 GB held 18. A step of a large block
    takes seconds, of which its pages are a tenth.

    Returns:
      Whether they do from now on.
    """
    if not sys.platform.startswith("linux"):
        return False
    if block < _machine() // LARGE:
        return False
    done = _set((M_MMAP_THRESHOLD, 32 << 20), (M_MMAP_MAX, 65536))
    if done:  # what is free, and what is reserved: malloc looks there first
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reserve() -> None:
    """Let the heap grow by a part of the machine's memory, which is kept, in large pages."""
    libc, size = ctypes.CDLL(None), _machine() // HEAP
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if start := libc.malloc(size):  # a limit on addresses may forbid it
        first, last = -(-start // HUGE) * HUGE, (start + size) // HUGE * HUGE
        libc.madvise(first, last - first, MADV_HUGEPAGE)
        libc.free(start)


def _set(*wanted: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in wanted)
