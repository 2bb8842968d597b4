"""Ends a process whose launch has lost another one, where the others wait for it and no signal reaches them.

A process that waits in a collective runs no Python, not even the handler of a signal. So two threads of it listen: one
exchanges signs of life with the other processes, the other looks at these and at the signals. Without torch.
"""

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seppo_core.distributed.signals import ECHO_OF_LAUNCHER, SIGNALS, exit_status
from seppo_core.io.atomic import MACHINE, is_alive

INTERVAL = 1.0
"""Seconds between two signs of life."""
SILENCE = 300.0
"""Seconds without a sign of life after which a process counts as lost. Its threads cannot give one while a library
holds the interpreter's lock, as for writing a large file."""
ASKED_TO_STOP = 20.0
"""The same once a signal has come to this process: less than launchers wait before they kill."""
GONE = 5.0
"""The same for a process of this machine that no longer exists."""
BYE = "bye"
STATUS = 2


class PeerLost(ConnectionError):
    """Another process of the launch is stopped or gone; the message names it."""


class Store(Protocol):
    """What the watch needs of a store of torch.distributed."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


@dataclass
class _Peer:
    sign: str = ""
    at: float = field(default_factory=time.monotonic)
    seen_alive: bool = False


class PeerWatch:
    """Watches the other processes of a launch of `world` as process `rank`. `connect` gives a store that they share.

    `end` is called with what to tell and the exit status when one is lost; by default it prints the one and ends this
    process with the other at once. `told` is called with the text before.
    """

    def __init__(
        self, rank: int, world: int, connect: Callable[[], Store], end: Callable[[str, int], None] | None = None
    ):
        self.rank, self.world = rank, world
        self.told: Callable[[str], None] = lambda text: None
        self._connect = connect
        self._end = end or _end
        self._peers = {other: _Peer() for other in range(world) if other != rank}
        self._exchanged = time.monotonic()
        self._signal: tuple[int, float] | None = None
        self._closed = threading.Event()
        self._readable, self._writable = os.pipe()
        self._beats = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._look)]

    def start(self) -> None:
        """Begins to watch; to be called in the main thread, which hears of signals."""
        os.set_blocking(self._writable, False)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Stops watching and tells the others that this process ended by itself."""
        if self._closed.is_set():
            return
        self._closed.set()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        # the thread that waits for signals
        os.write(self._writable, b"\0")
        for thread in self._threads:
            thread.join(timeout=2 * INTERVAL)

    def lost(self, patience: float = 0.0) -> list[int]:
        """The processes that are silent; waits `patience` seconds for signs of life, to be sure."""
        began = time.monotonic()
        time.sleep(patience)
        if self._exchanged < began:
            return [0]
        return [rank for rank, peer in self._peers.items() if peer.at < began and peer.sign != BYE]

    def pause(self) -> None:
        """Leaves it to the main thread to end the process."""
        self._end = lambda text, status: None

    def _beat(self) -> None:
        try:
            # in this thread: where the first process is gone already, it tries for hours
            store = self._connect()
            while not self._closed.wait(INTERVAL):
                self._beats += 1
                self._exchange(store, f"{self._beats} {MACHINE} {os.getpid()}")
            self._exchange(store, BYE)
        except RuntimeError:
            # the store went with the process that held it; `_exchanged` tells since when
            return

    def _exchange(self, store: Store, sign: str) -> None:
        store.set(f"sign {self.rank}", sign)
        for rank, peer in self._peers.items():
            key = f"sign {rank}"
            found = store.get(key).decode() if store.check([key]) else ""
            if found != peer.sign:
                peer.sign, peer.at = found, time.monotonic()
                peer.seen_alive = peer.seen_alive or not _is_gone(found)
        self._exchanged = time.monotonic()

    def _look(self) -> None:
        looked = time.monotonic()
        while not self._closed.is_set():
            self._hear()
            now = time.monotonic()
            if now - looked > 5 * INTERVAL:
                # this process was stopped itself, and has heard of nobody meanwhile
                self._exchanged = max(self._exchanged, now)
                for peer in self._peers.values():
                    peer.at = now
            looked = now
            if (text := self._loss(now)) is not None:
                self.told(text)
                self._end(text, STATUS if self._signal is None else exit_status(self._signal[0]))
                return

    def _hear(self) -> None:
        ready, _, _ = select.select([self._readable], [], [], INTERVAL / 2)
        for number in os.read(self._readable, 64) if ready else b"":
            now = time.monotonic()
            if number in SIGNALS and self._signal is None:
                self._signal = number, now
            elif number in SIGNALS and now - self._signal[1] > ECHO_OF_LAUNCHER:
                # the second one ends the process at once, wherever it waits
                os._exit(exit_status(number))

    def _loss(self, now: float) -> str | None:
        asked = self._signal is not None and now - self._signal[1] > ASKED_TO_STOP
        limit = ASKED_TO_STOP if asked else SILENCE
        for rank, peer in self._peers.items():
            silent = now - peer.at
            if peer.sign == BYE:
                continue
            if silent > GONE and peer.seen_alive and _is_gone(peer.sign):
                return self.describe(rank, "is gone")
            if silent > limit:
                return self.describe(rank, f"has given no sign of life for {silent:.0f} s; it is stopped or cut off")
        if now - self._exchanged > limit:
            return self.describe(0, "or its launcher, which holds what the processes share, does not answer")
        return None

    def describe(self, rank: int, what: str) -> str:
        """The line that is told about a process that is lost."""
        asked = f" which was asked to stop ({signal.Signals(self._signal[0]).name})," if self._signal else ""
        return (
            f"process {rank} of {self.world} {what}. This one, process {self.rank},{asked} cannot go on without it and "
            "ends; end what is left of the launch, and the same command goes on from what was saved last"
        )


def _end(text: str, status: int) -> None:
    print(f"{program}: {text}", file=sys.stderr, flush=True)
    # the main thread waits where nothing can be raised
    os._exit(status)


def _is_gone(sign: str) -> bool:
    """Whether a sign of life is of a process of this machine that no longer exists, or only as a zombie."""
    _, _, about = sign.partition(" ")
    machine, _, process = about.partition(" ")
    if machine != MACHINE or not is_alive(int(process)):
        return machine == MACHINE
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2][1] in "ZX"
    except OSError:
        # no such files on this system
        return False


program = "seppo"
"""The name that begins what is told."""
watch: PeerWatch | None = None
"""The watch of this process; None where it is alone."""


def watch_peers(rank: int, world: int, connect: Callable[[], Store]) -> None:
    """Begins to watch the other processes, once in a process."""
    global watch
    if watch is None and world > 1 and threading.current_thread() is threading.main_thread():
        watch = PeerWatch(rank, world, connect)
        watch.start()
