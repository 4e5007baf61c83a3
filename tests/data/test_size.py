"""Memory while preparing, as the operating system counts it."""

import subprocess
import sys
from pathlib import Path

import pytest

GIB = 2**20  # in KiB, the unit of ru_maxrss
SCRIPT = """
import resource, sys
from dataclasses import replace
from mtl_jax import config
from mtl_jax.data.prepare import prepare

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

events, folder = sys.argv[1:]
found = config.load("experiments/configs/quickstart.py", [f"data.world.events={events}"])
before = peak()
prepare(replace(found.data, prepared=folder))
print(before, peak())
"""


@pytest.mark.soak
def test_a_log_needs_its_share_of_four_gib(tmp_path: Path) -> None:
    events = 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(events), str(tmp_path / "prepared")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    print(f"{events:,} events: {before / GIB:.2f} GiB before, {after / GIB:.2f} GiB at most")
    # 10 million may take 4 GiB, of which half a GiB is there before
    assert after - before < 3.5 * GIB * events / 10_000_000 + 0.1 * GIB
