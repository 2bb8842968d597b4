"""Everything around the training loop that is no training: the folder's lock, logs, display, health gates, signals."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.distributed import DistError
from torch.utils.tensorboard import SummaryWriter

from seppo_core.config.loader import plain
from seppo_core.config.schema import Config
from seppo_core.distributed.ranks import Ranks
from seppo_core.distributed.signals import Stopped, StopSignals
from seppo_core.distributed.store import RunStore
from seppo_core.io.locks import FolderLock
from seppo_core.run.display import UpdateDisplay
from seppo_core.run.eta import TimeLeft
from seppo_core.run.health import Health, UnhealthyRun
from seppo_core.run.history import EventName, add_event, read_metrics
from seppo_core.run.logging import RunLog, WeightsAndBiases

AGREE_EVERY = 4
"""Micro-batches between two questions of several processes whether one of them was asked to stop."""
LOOK_EVERY = 0.2
"""Seconds between two looks at what the other processes have said."""


class RunWatch(AbstractContextManager):
    """Keeps watch over one run, on every process of it. Entered before anything in the folder is touched.

    The main process writes `metrics.jsonl`, `events.jsonl` and TensorBoard and speaks on the terminal. The health gates
    look on every process, which all see the same numbers, so that all stop together. None of it moves a weight.
    `collective` says whether a forward pass needs all processes at once, as that of a sharded model does.
    """

    def __init__(
        self, config: Config, folder: Path, accelerator: Accelerator, generates: bool, collective: bool = False
    ):
        loop = config.loop
        self.config, self.folder, self.accelerator, self.collective = config, folder, accelerator, collective
        samples = loop.updates * loop.batch_size if generates else 0
        self.pace = TimeLeft(loop.iterations * loop.updates, loop.updates, samples)
        self.signals = StopSignals()
        self._stack = ExitStack()
        self._place: FolderLock | None = None
        self._log: RunLog | None = None
        self._looked = float("-inf")

    def __enter__(self) -> "RunWatch":
        ranks = Ranks.of(self.accelerator)
        # where another run holds the folder, all leave
        ranks.run_on_main(self._take_place)
        self.board = RunStore(ranks)
        self._stack.enter_context(self.signals)
        return self

    def _take_place(self) -> None:
        self._place = self._stack.enter_context(FolderLock(self.folder))

    def begin(self, done: int) -> None:
        """Opens the logs where `done` updates are done. UnhealthyRun where a gate that stops has spoken before."""
        config = self.config
        history = [line for line in read_metrics(self.folder) if line["update"] <= done]
        self.health = Health.of(config.health, config.method, config.loop.batch_size, history)
        if self.health.fatal is not None:
            raise UnhealthyRun(self.health.fatal)
        if self._is_main:
            project = config.log.wandb
            wandb = None if project is None else WeightsAndBiases(project, self.folder, plain(config))
            self._log = self._stack.enter_context(RunLog(self.folder, done, wandb))
            self._event("started", update=done, process=os.getpid())
        self.display = UpdateDisplay(
            self.pace, done, description=f"{config.method.name} on {self.folder.name}", visible=self._is_main
        )
        self._stack.callback(self.display.close)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace) -> None:
        if kind is None:
            self._event("finished")
        elif issubclass(kind, Exception | Stopped):
            # on a full disk not even this can be written; what ended the run is told all the same
            with suppress(OSError):
                self._ended(kind, error)
        gone = self._gone() if isinstance(error, Exception) else None
        self._stack.__exit__(kind, error, trace)
        if gone is not None:
            # a folder that vanished shows first in whatever file is read next; this says what happened
            raise gone from error

    @property
    def writer(self) -> SummaryWriter | None:
        """TensorBoard's, on the main process."""
        return None if self._log is None else self._log.writer

    def sampled(self, count: int, started: float) -> None:
        """After `count` reference samples, begun at `started` on the performance counter."""
        if count:
            seconds = time.perf_counter() - started
            self.pace.samples(count, seconds)
            self._event("samples", count=count, seconds=round(seconds, 3))

    def updated(self, done: int, metrics: dict[str, float | int]) -> None:
        """After every update: logs, shows, looks at its health. UnhealthyRun where a gate says stop."""
        if self._log is not None:
            self._place.check()
            self._log.write(done, metrics)
        self.display.show(done, metrics)
        for alarm in self.health.look({"update": done, **metrics}):
            self.display.say(f"health: {alarm}")
            self._event("alarm", gate=alarm.gate, update=done, since=alarm.since, saw=alarm.saw)
        if self.health.fatal is not None:
            raise UnhealthyRun(self.health.fatal)

    @contextmanager
    def saving(self, done: int) -> Iterator[None]:
        """Around the writing of a checkpoint, on the main process."""
        self._place.check()
        if self._log is not None:
            self._log.sync()
        yield
        self._event("checkpoint", update=done)

    def poll(self, micro_batch: int) -> None:
        """Between micro-batches: raises Stopped, in all processes at the same one, if a signal came to any."""
        if self._alone:
            self.signals.check()
        elif micro_batch % AGREE_EVERY == 0:
            self.agree()

    def agree(self) -> None:
        """Raises Stopped in all processes if a signal came to any of them. All must ask."""
        if self._alone:
            self.signals.check()
            return
        own = self.signals.received or self.board.stopped() or 0
        told = self.accelerator.gather(torch.tensor([own], device=self.accelerator.device))
        if highest := int(told.max()):
            raise Stopped(highest)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Around work that processes do apart and may break off anywhere, for it is done again. All must enter.

        At its end they wait for one another, awake to signals. One that came to any of them ends the work of all, at
        its next `look` or, where it is `breakable`, there and then; all raise Stopped together. Where a process failed,
        the others leave.
        """
        try:
            yield
        except Stopped as stopped:
            self.board.stop(stopped.signum)
        if not self._alone:
            self.board.enter_barrier()
            # a process that waits within a collective would not hear a signal
            while not self.board.barrier_complete():
                self.board.raise_if_failed()
                if self.signals.received is not None:
                    self.board.stop(self.signals.received)
                if self.board.stopped() is not None:
                    break
                time.sleep(0.05)
        self.agree()

    def look(self, *_: int) -> None:
        """Between the steps of work done `apart`: raises Stopped if a signal came to any process."""
        if self.collective:
            # to look at one's own signal alone could part them
            self.agree()
            return
        self.signals.check()
        now = time.monotonic()
        if self._alone or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        self.board.raise_if_failed()
        if (told := self.board.stopped()) is not None:
            raise Stopped(told)

    def breakable(self) -> AbstractContextManager[None]:
        """Around what a signal may break off anywhere: no other process takes part in it."""
        return self.signals.at_once(not self.collective)

    def _gone(self) -> OSError | None:
        if self._place is None:
            return None
        try:
            self._place.check()
        except OSError as error:
            return error
        return None

    def _event(self, name: EventName, **details: float | int | str) -> None:
        if self._is_main:
            add_event(self.folder, name, **details)

    def _ended(self, kind: type[BaseException], error: BaseException) -> None:
        why = " ".join(str(error).split())[:300]
        if kind is Stopped:
            self._event("stopped", why=why)
        elif self._first_to_fail():
            # by the process that knows why: its end is the end of the others
            rank = {} if self._alone else {"rank": self.accelerator.process_index}
            if _is_loss(error):
                add_event(self.folder, "stopped", why=f"another process was lost: {why}", **rank)
            else:
                add_event(self.folder, "failed", why=why, **rank)

    def _first_to_fail(self) -> bool:
        try:
            return self.board.fail()
        except RuntimeError:
            # the store went with the process that held it
            return self._is_main

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def _alone(self) -> bool:
        return self.accelerator.num_processes == 1


def _is_loss(error: BaseException) -> bool:
    """Whether a collective broke off because another process is gone. That is no fault of the run, which can go on."""
    # gloo's errors have no class of their own
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
