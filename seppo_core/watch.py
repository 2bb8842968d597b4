"""Everything around the training loop that is no training: the folder's lock, logs, display, health gates, signals."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from seppo_core.config import Config
from seppo_core.config_file import plain
from seppo_core.health import Health, UnhealthyRun
from seppo_core.pace import Pace
from seppo_core.run_files import EventName, add_event, read_metrics
from seppo_core.run_log import RunLog
from seppo_core.run_place import RunPlace
from seppo_core.signals import Stopped, StopSignals
from seppo_core.team import Team
from seppo_core.terminal import UpdateDisplay
from seppo_core.wandb_log import ProjectLog

AGREE_EVERY = 4
"""Micro-batches between two questions of several processes whether one of them was asked to stop."""


class RunWatch(AbstractContextManager):
    """Keeps watch over one run, on every process of it. Entered before anything in the folder is touched.

    The main process writes `metrics.jsonl`, `events.jsonl` and TensorBoard and speaks on the terminal. The health gates
    look on every process, which all see the same numbers, so that all stop together. None of it moves a weight.
    """

    def __init__(self, config: Config, folder: Path, accelerator: Accelerator, generates: bool):
        loop = config.loop
        self.config, self.folder, self.accelerator = config, folder, accelerator
        samples = loop.updates * loop.batch_size if generates else 0
        self.pace = Pace(loop.iterations * loop.updates, loop.updates, samples)
        self.signals = StopSignals()
        self._stack = ExitStack()
        self._place: RunPlace | None = None
        self._log: RunLog | None = None

    def __enter__(self) -> "RunWatch":
        # where another run holds the folder, all leave
        Team.of(self.accelerator).first(self._take_place)
        self._stack.enter_context(self.signals)
        return self

    def _take_place(self) -> None:
        self._place = self._stack.enter_context(RunPlace(self.folder))

    def begin(self, done: int) -> None:
        """Opens the logs where `done` updates are done. UnhealthyRun where a gate that stops has spoken before."""
        config = self.config
        history = [line for line in read_metrics(self.folder) if line["update"] <= done]
        self.health = Health.of(config.health, config.method, config.loop.batch_size, history)
        if self.health.fatal is not None:
            raise UnhealthyRun(self.health.fatal)
        if self._is_main:
            project = config.log.wandb
            wandb = None if project is None else ProjectLog(project, self.folder, plain(config))
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
                self._event("stopped" if kind is Stopped else "failed", why=" ".join(str(error).split())[:300])
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
        own = self.signals.received or 0
        told = self.accelerator.gather(torch.tensor([own], device=self.accelerator.device))
        if highest := int(told.max()):
            raise Stopped(highest)

    def must_stop(self) -> bool:
        """Whether this process was asked to: for work that processes do apart, before they `agree`."""
        return self.signals.received is not None

    def breakable(self) -> AbstractContextManager[None]:
        """Around work that may be broken off anywhere and is done again; only where no other process waits for it."""
        return self.signals.at_once(self._alone)

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

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def _alone(self) -> bool:
        return self.accelerator.num_processes == 1
