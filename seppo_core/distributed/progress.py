"""Joint progress of the processes of a launch while each does its own share of the work.

They talk through the store rather than through collectives: a process may be minutes behind another, which would run
into a collective's time limit.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import NamedTuple

from torch.distributed import DistError
from tqdm import tqdm

from seppo_core.distributed.ranks import Ranks
from seppo_core.distributed.store import RunStore
from seppo_core.io.progress import progress_bar

INTERVAL = 2.0
"""Seconds between two exchanges with the other processes."""
COUNTS = ("done", "kept", "rejected", "left_out")
PATIENCE = 45.0
"""Seconds without a sign of life after which another process counts as dead. A thread of each gives one every
`INTERVAL`, however long an item takes."""
GRACE = 15.0
"""Seconds that a process still waits for the others' files after the store is gone, which ends with its process."""


LEFT = "left"
"""The phase of a process that has all done."""


class _Heard(NamedTuple):
    beats: int
    at: float


class RankProgress:
    """Sums the counts of all processes, shows a bar on the main one and waits for the others. Used within `with`."""

    def __init__(self, store: RunStore, ranks: Ranks, visible: bool):
        self.store, self.ranks, self.visible = store, ranks, visible and ranks.is_main
        self.counts = dict.fromkeys(COUNTS, 0)
        self._bar: tqdm | None = None
        self._phase = ""
        self._before = 0
        self._over = Event()
        self._pulse = Thread(target=self._beat, name="beat", daemon=True)
        self._exchanged = float("-inf")
        self._store_lost: float | None = None
        self._others: dict[int, dict] = {}
        self._heard: dict[int, _Heard] = {}

    def __enter__(self) -> "RankProgress":
        if self.ranks.world > 1:
            self._pulse.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace) -> None:
        if self._bar is not None:
            self._bar.close()
        self._over.set()
        if self.ranks.world > 1 and self._store_lost is None:
            # it may end before this does
            with suppress(DistError):
                if error is not None:
                    self.store.fail()
                else:
                    self.store.publish(self.ranks.rank, {"phase": LEFT} | self.counts)

    def _beat(self) -> None:
        with suppress(DistError):
            while not self._over.is_set():
                self.store.beat(self.ranks.rank)
                self._over.wait(INTERVAL)

    def begin(self, phase: str, total: int, done: int, unit: str) -> None:
        """Starts a bar over `total` units, of which `done` were there before this launch."""
        if self._bar is not None:
            self._bar.close()
        self.counts = dict.fromkeys(COUNTS, 0)
        self._phase, self._before = phase, done
        self._bar = progress_bar(total, done, unit=unit, description=phase, visible=self.visible)
        self._update(at_once=True)

    def add(self, done: int, kept: int = 0, rejected: int = 0, left_out: int = 0) -> None:
        """Adds what this process has done since its last call."""
        for name, count in zip(COUNTS, (done, kept, rejected, left_out), strict=True):
            self.counts[name] += count
        self._update()

    def total(self, name: str) -> int:
        """The count of all processes in this launch, as far as is known."""
        same = [counts for counts in self._others.values() if counts["phase"] == self._phase]
        return self.counts[name] + sum(counts[name] for counts in same)

    def show(self, **shown: int) -> None:
        """Shows numbers behind the bar."""
        self._bar.set_postfix(shown, refresh=False)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Returns once `ready()`, which must say that all processes are done with this phase.

        Raises SystemExit if another process has failed, TimeoutError, which names it, if one is dead.
        """
        while not ready():
            self._update()
            if self._store_lost is not None and time.monotonic() - self._store_lost > GRACE:
                raise TimeoutError(
                    f"process 0 of {self.ranks.world} has ended, and with it what the processes share; if its own last "
                    "line does not say why it was killed: give the same command again"
                )
            time.sleep(0.05 if self.ranks.world == 1 else 0.25)
        # the others may have gone on to the next phase without a last word on this one
        self._bar.update(self._bar.total - self._bar.n)

    def _update(self, at_once: bool = False) -> None:
        now = time.monotonic()
        due = at_once or now - self._exchanged >= INTERVAL
        if self.ranks.world > 1 and due and self._store_lost is None:
            self._exchanged = now
            try:
                self._exchange(now)
            except DistError:
                self._store_lost = now
        self._bar.update(self._before + self.total("done") - self._bar.n)

    def _exchange(self, now: float) -> None:
        self.store.publish(self.ranks.rank, {"phase": self._phase} | self.counts)
        self.store.raise_if_failed()
        for rank in range(self.ranks.world):
            if rank == self.ranks.rank:
                continue
            found = self.store.published(rank)
            if found is not None:
                self._others[rank] = found
            beats = self.store.beats(rank)
            if rank not in self._heard or self._heard[rank].beats != beats:
                self._heard[rank] = _Heard(beats, now)
            elif now - self._heard[rank].at > PATIENCE and (found is None or found["phase"] != LEFT):
                raise TimeoutError(
                    f"process {rank} of {self.ranks.world} was killed or hangs: no sign of life for {PATIENCE:.0f} s; "
                    "end what is left of this launch and give the same command again"
                )
