"""A process of a launch notices one that is stopped or gone, though its main thread hears of nothing."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from torch.distributed import HashStore

from seppo_core.distributed import watch as peers
from seppo_core.distributed.watch import BYE, PeerWatch
from seppo_core.io.atomic import MACHINE


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("INTERVAL", 0.05), ("SILENCE", 0.6), ("ASKED_TO_STOP", 0.15), ("GONE", 0.1)):
        monkeypatch.setattr(peers, name, seconds)


@pytest.fixture
def watched(quick):
    """A watch of process 0 over process 1, their store, and what it ended with."""
    store, ended = HashStore(), []
    watch = PeerWatch(0, 2, lambda: store, lambda text, status: ended.append((text, status)))
    watch.start()
    yield watch, store, ended
    watch.close()
    assert store.get("sign 0") == BYE.encode()


def until(ready, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_gives_signs_of_life_is_left_alone_and_one_that_stops_is_named(watched):
    watch, store, ended = watched
    for beat in range(20):
        store.set("sign 1", f"{beat} elsewhere 1")
        time.sleep(0.05)
    assert not ended
    until(lambda: ended)
    ((text, status),) = ended
    assert text.startswith("process 1 of 2 has given no sign of life for ") and status == 2
    assert "This one, process 0, cannot go on without it and ends" in text
    assert watch.lost(0.1) == [1]


def test_a_signal_that_the_main_thread_cannot_handle_is_heard(watched):
    _, store, ended = watched
    store.set("sign 1", "1 elsewhere 1")
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: ended)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - began < 0.55, "sooner than silence alone"
    assert ended[0][1] == 143 and "which was asked to stop (SIGTERM), cannot go on" in ended[0][0]


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_process_of_this_machine_that_is_gone_is_noticed_at_once(watched, monkeypatch, how):
    watch, store, ended = watched
    monkeypatch.setattr(peers, "SILENCE", 60.0)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.set("sign 1", f"1 {MACHINE} {other.pid}")
    until(lambda: watch._peers[1].seen_alive)
    if how == "ended":
        store.set("sign 1", BYE)
    # a zombie until it is waited for
    other.kill()
    time.sleep(0.5)
    other.communicate()
    assert [text.startswith("process 1 of 2 is gone") for text, _ in ended] == ([True] if how == "killed" else [])


def test_a_store_that_does_not_answer_is_a_process_that_is_lost(quick):
    class Stuck(HashStore):
        def set(self, *_):
            threading.Event().wait(2)

    ended = []
    watch = PeerWatch(1, 2, Stuck, lambda text, status: ended.append(text))
    watch.start()
    until(lambda: ended)
    assert ended[0].startswith("process 0 of 2 ")
    watch.close()
