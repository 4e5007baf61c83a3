"""What the C library does with freed memory."""

import ctypes
import platform

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
LARGEST = 2**30  # bytes of a block that is still kept


def keep_freed_memory() -> bool:
    """Lets the process keep what it frees, for its next block; whether that could be asked for.

    XLA on a CPU allocates a step's temporaries anew every step. glibc maps blocks above 32 MiB
    (64 MiB in threads' own heaps) and gives them back when they are freed, so that every step pays
    a page fault for each 4 KiB: half of the time of a step on a table of 5M rows. Blocks up to
    1 GiB now stay in one heap. The process holds on to the most memory it ever had. Call it
    before threads are started: they keep the heaps that they have.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    asked = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, LARGEST), (_TRIM_THRESHOLD, 2**31 - 1))
    answers = [libc.mallopt(name, value) for name, value in asked]
    return answers == [1, 1, 1]
