"""Memory that lies free in pieces is got out of malloc's way."""

import ctypes
import json
import subprocess
import sys

import pytest

from mtl_jax.core import pieces

PIECES = r"""
import json, random, re, sys, threading
from mtl_jax.core.memory import keep_freed_memory
from mtl_jax.core.pieces import give_back_pieces
if sys.argv[1] == "one":
    assert keep_freed_memory()
draw = random.Random(0)
def read():
    return int(re.search(r"VmRSS:\s+(\d+) kB", open("/proc/self/status").read())[1])
blocks = [bytearray(draw.randrange(6000, 12000)) for _ in range(24_000)]
for block in blocks:
    block[:] = b"1" * len(block)
blocks[::2] = [None] * len(blocks[::2])
def work():
    before = read()
    found = [give_back_pieces(many) for many in (1 << 40, 10_000, 10_000)]
    kept = all(block is None or block.count(b"1") == len(block) for block in blocks)
    print(json.dumps([found, (before - read()) / 1024, kept]))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")


def run(how: str) -> tuple[list[int], float, bool]:
    done = subprocess.run(
        [sys.executable, "-c", PIECES, how], capture_output=True, text=True, check=True
    )
    found, megabytes, kept = json.loads(done.stdout)
    return found, megabytes, kept


@glibc
def test_pieces_are_given_back_once_and_nothing_that_is_in_use() -> None:
    found, megabytes, kept = run("one")
    assert found[0] == 0, "few enough"
    assert found[1] >= 10_000
    assert found[2] == 0, "they are gone"
    assert megabytes > 40, "of 12,000 pieces of 9,000 bytes, less their first and last pages"
    assert kept


@glibc
def test_a_thread_that_allocates_elsewhere_leaves_them() -> None:
    found, megabytes, kept = run("many")
    assert found == [0, 0, 0]
    assert abs(megabytes) < 10
    assert kept


def test_another_c_library_has_nothing_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pieces.give_back_pieces(0) == 0
