"""A first signal is noted or raised, a second one ends the process: in real processes, with real signals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from seppo_core.distributed.signals import ECHO, Stopped, StopSignals, raising

LOOP = """
import sys, time
from seppo_core.distributed.signals import Stopped, StopSignals
with StopSignals() as stop:
    print("ready", flush=True)
    try:
        while True:
            time.sleep(0.01)
            stop.check()
    except Stopped as stopped:
        print("saving", flush=True)
        time.sleep(float(sys.argv[1]))
        print("saved", flush=True)
        sys.exit(stopped.status)
"""


def start(code: str, *arguments: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_lets_the_loop_save(number, status):
    process = start(LOOP, "0.1")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "saving\nsaved\n"
    assert process.returncode == status
    assert f"{number.name}: saving; once more leaves at once" in err


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_leaves_at_once(second):
    process = start(LOOP, "60")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    time.sleep(ECHO)
    began = time.monotonic()
    process.send_signal(second)
    out, _ = process.communicate(timeout=20)
    assert out == ""
    assert process.returncode == 128 + second
    assert time.monotonic() - began < 5


def test_an_echo_of_the_first_signal_is_none():
    """torchrun hands on what the terminal has sent to all already."""
    process = start(LOOP, "1")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert out == "saved\n"
    assert process.returncode == 130


def test_at_once_interrupts_what_is_going_on():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        began = time.monotonic()
        with pytest.raises(Stopped) as caught, stop.at_once():
            time.sleep(30)
        assert time.monotonic() - began < 10
        assert caught.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_at_once_it_waits_to_be_asked():
    with StopSignals() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGINT)
        with stop.at_once(allowed=False):
            pass
        with pytest.raises(Stopped, match="SIGINT"):
            stop.check()


def test_at_once_finds_a_signal_that_came_before():
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("nothing may be begun")


def test_stopped_is_an_interrupt_that_no_except_exception_swallows():
    with pytest.raises(KeyboardInterrupt):
        try:
            raise Stopped(signal.SIGTERM, "after update 3")
        except Exception:
            pytest.fail("swallowed")
    assert str(Stopped(signal.SIGTERM, "after update 3")) == "stopped by SIGTERM after update 3"


def test_raising_turns_a_sigterm_into_an_interrupt_that_tidies_up():
    before = signal.getsignal(signal.SIGTERM)
    tidied = []
    with pytest.raises(Stopped), raising():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            tidied.append(True)
    assert tidied
    assert signal.getsignal(signal.SIGTERM) is before


def test_threads_that_cannot_catch_signals_do_without():
    seen = []

    def work():
        with StopSignals() as stop, raising(), stop.at_once():
            stop.check()
            seen.append(stop.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
