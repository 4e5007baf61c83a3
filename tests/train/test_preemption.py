import os
import signal
import threading

import pytest

from mtl_jax.train.preemption import Preempted, Preemption


def test_a_signal_is_noted_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        preemption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.asked()
        with pytest.raises(Preempted):
            preemption.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_work_that_takes_long_is_left_when_a_signal_comes():
    go_on = threading.Event()
    with Preemption() as preemption:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(Preempted):
            preemption.wait_for(lambda: go_on.wait(60))
        go_on.set()
        timer.join()


def test_work_gives_its_value_or_its_error():
    preemption = Preemption()
    assert preemption.wait_for(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        preemption.wait_for(lambda: 1 // 0)
