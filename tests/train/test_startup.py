import os
import subprocess
import sys
import time

import pytest

from mtl_jax.train.startup import Startup, age_of_process


def test_parts_follow_one_another_until_they_are_told():
    startup = Startup()
    time.sleep(0.02)
    startup.lap("model")
    startup.lap("state")
    told = startup.tell()
    assert told["model"] >= 0.02 > told["state"] >= 0
    assert told["seconds"] == pytest.approx(told["model"] + told["state"])
    startup.lap("late")
    assert "late" not in startup.parts


def test_the_age_of_a_process_counts_from_its_start():
    before = time.perf_counter()
    code = (
        "import time; time.sleep(0.3); from mtl_jax.train.startup import *; print(age_of_process())"
    )
    age = float(subprocess.check_output([sys.executable, "-c", code], env=dict(os.environ)))
    assert 0.28 <= age <= time.perf_counter() - before + 0.02
    assert age_of_process() > age, "this process is older"
