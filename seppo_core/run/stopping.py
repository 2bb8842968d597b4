"""How a run stops in order: signals, and what the processes of a launch tell one another about ending."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator

from seppo_core.distributed.ranks import Ranks
from seppo_core.distributed.signals import Stopped, StopSignals
from seppo_core.distributed.store import RunStore

T = TypeVar("T")

MICRO_BATCHES_PER_CHECK = 4
"""Micro-batches between two exchanges of several processes about signals."""
SECONDS_PER_CHECK = 0.2
"""Seconds between two looks at what the other processes have said."""


class StopCoordinator(AbstractContextManager):
    """Ends all processes of a run together when a signal comes to any of them, or when one of them fails.

    All processes must construct it. Signals are caught within `with`. `collective` says whether a forward pass needs
    all processes at once, as that of a sharded model does.
    """

    def __init__(self, accelerator: Accelerator, *, collective: bool = False):
        self.accelerator, self.collective = accelerator, collective
        self.store = RunStore(Ranks.of(accelerator))
        self._signals = StopSignals()
        self._checked = float("-inf")

    def __enter__(self) -> "StopCoordinator":
        self._signals.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._signals.__exit__(*error)

    def check_all_ranks(self) -> None:
        """Raises Stopped in all processes if a signal came to any of them. All must call it."""
        if self._alone:
            self._signals.check()
            return
        own = self._signals.received or self.store.stopped() or 0
        signums = self.accelerator.gather(torch.tensor([own], device=self.accelerator.device))
        if highest := int(signums.max()):
            raise Stopped(highest)

    def check_between(self, micro_batch: int) -> None:
        """`check_all_ranks` between micro-batches: at every one for a process alone, else at every fourth."""
        if self._alone or micro_batch % MICRO_BATCHES_PER_CHECK == 0:
            self.check_all_ranks()

    def check_local(self) -> None:
        """Raises Stopped if a signal came to any process. For use in `independent` work, where processes call it at
        different times."""
        if self.collective:
            # to look at one's own signal alone could part them
            self.check_all_ranks()
            return
        self.check_alone()

    def check_alone(self) -> None:
        """`check_local` for work in which the other processes have no part, even if the model is sharded: they wait."""
        self._signals.check()
        now = time.monotonic()
        if self._alone or now - self._checked < SECONDS_PER_CHECK:
            return
        self._checked = now
        self.store.raise_if_failed()
        if (signum := self.store.stopped()) is not None:
            raise Stopped(signum)

    def drain(self, steps: Iterator[T]) -> T:
        """The last value of `steps`, with a check after each. Unless the model is sharded, a signal ends it within a
        step, too."""
        with self._signals.at_once(not self.collective):
            for value in steps:  # noqa: B007
                self.check_local()
        return value

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context, within `independent`, of work of this process alone that a signal ends wherever it is."""
        with self._signals.at_once():
            yield

    @contextmanager
    def independent(self) -> Iterator[None]:
        """Context for work that each process does by itself and that may be broken off anywhere, since it is done again
        after a restart. All processes must enter it.

        At its end they wait for one another. A signal that came to any of them ends the work of all: at the next
        `check_local`, or at once in `drain`. All raise Stopped together. If a process fails, the others leave.
        """
        try:
            yield
        except Stopped as stopped:
            self.store.stop(stopped.signum)
        if not self._alone:
            self.store.enter_barrier()
            # a process that waits within a collective would not hear a signal
            while not self.store.barrier_complete():
                self.store.raise_if_failed()
                if self._signals.received is not None:
                    self.store.stop(self._signals.received)
                if self.store.stopped() is not None:
                    break
                time.sleep(0.05)
        self.check_all_ranks()

    @property
    def _alone(self) -> bool:
        return self.accelerator.num_processes == 1
