"""Freed memory stays with the process. In a process of its own: the setting outlives a test."""

import subprocess
import sys

CODE = """
import sys, threading
from mtl_jax.core.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("unavailable")
    sys.exit()

def faults():
    return int(open("/proc/self/stat").read().rpartition(")")[2].split()[7])

def work():
    for n in range(4):
        if n == 2:
            start.append(faults())
        bytearray(b"1") * 80_000_000
    start.append(faults())

start = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(start[1] - start[0])
"""


def faults_of(how):
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_large_block_is_paid_for_once():
    kept = faults_of("keep")
    if kept != "unavailable":  # not glibc
        assert int(kept) < 1000 < int(faults_of("give back"))
