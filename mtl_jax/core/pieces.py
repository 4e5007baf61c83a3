"""Memory that lies free in many pieces, as a compiler leaves it, is got out of malloc's way."""

import ctypes
import re
import sys

from mtl_jax.core.memory import reserve

MANY = 10_000  # pieces: fewer cost a step nothing that could be measured
SIZES = 1024, 2 << 20  # bytes: malloc keeps smaller ones by size, larger ones are few
PASSES = 5  # what is left of a piece is a piece


def give_back_pieces(many: int = MANY) -> int:
    """Free pieces of glibc's main arena are allocated for good and their pages given back.

    XLA compiles a training step in blocks of every size and frees a quarter of a million of them.
    malloc sorts what a step frees among these by size, one after the other, under the lock that
    `mtl_jax.core.memory` makes the only one: steps took 1.3 to 1.6 times as long as before, and 4
    GB of memory stood idle. What is lost here is addresses. Call it after compiling.

    Args:
      many: with fewer pieces nothing is done.

    Returns:
      How many there were; 0 if nothing was done, as where the C library is not glibc and in a
      thread that allocates elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: a call takes less than letting it go
    if not hasattr(libc, "malloc_info"):
        return 0
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    if not _here(libc):
        return 0
    found = sum(n for _, n in _pieces(libc))
    if found < many:
        return 0
    libc.malloc_trim(ctypes.c_size_t(0))
    for _ in range(PASSES):
        pieces = _pieces(libc)
        if sum(n for _, n in pieces) < many // 10:
            break
        for size, n in reversed(pieces):
            for _ in range(n):
                libc.malloc(size - 8)  # of a piece 8 bytes are malloc's own
    reserve()
    return found


def _here(libc: ctypes.PyDLL) -> bool:
    """Whether this thread allocates from the main arena, which ends at the program break."""
    block = libc.malloc(SIZES[0])
    libc.free(block)
    return bool(block < libc.sbrk(0))


def _pieces(libc: ctypes.PyDLL) -> list[tuple[int, int]]:
    """(size of the smallest, how many) in each of malloc's lists of `SIZES`, smallest first."""
    text, length = ctypes.c_char_p(), ctypes.c_size_t()
    libc.open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(length)))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    told = ctypes.string_at(text, length.value).decode()
    libc.free(text)
    main = told.partition("</heap>")[0]
    lists = re.findall(r'<size from="(\d+)" to="(\d+)" total="\d+" count="(\d+)"', main)
    low, high = SIZES
    return [(int(a), int(n)) for a, b, n in lists if low <= int(a) and int(b) < high]
