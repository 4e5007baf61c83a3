"""Freed memory stays with the process, in large pages."""

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys, threading
import numpy as np
from mtl_jax.core.memory import give_back_large, keep_freed_memory
if sys.argv[1] != "leave":
    assert keep_freed_memory()
    assert not give_back_large(1 << 20)
if sys.argv[1] == "give back":
    assert give_back_large(1 << 60)
def touch():
    np.empty(128 << 20, np.uint8)[::4096] = 1
def elsewhere():
    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
elsewhere()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    elsewhere()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_a_block_that_comes_again_costs_no_page_faults() -> None:
    # 128 MiB are 32,768 pages, touched in a thread as XLA would; fewer faults with huge pages.
    assert faults("keep") < 100
    assert faults("leave") > 100
    assert faults("give back") > 100


LARGE = r"""
import re, sys
from mtl_jax.core.memory import keep_freed_memory
def read(name):
    return int(re.search(rf"^{name}:\s+(\d+) kB", open("/proc/self/smaps_rollup").read(), re.M)[1])
before = read("Rss")
if sys.argv[1] == "keep":
    assert keep_freed_memory()
    assert read("Rss") - before < 8 << 10, "reserved, not used"
block = bytearray(b"1") * (128 << 20)
print(read("AnonHugePages"))
"""


def large_pages() -> bool:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.is_file() and "[madvise]" in path.read_text()


@pytest.mark.skipif(not large_pages(), reason="the kernel gives large pages to all, or none")
def test_the_heap_is_of_large_pages() -> None:
    def kilobytes(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", LARGE, how], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert kilobytes("keep") >= 100 << 10
    assert kilobytes("leave") < 100 << 10
