"""Folder lock, events, logs, progress display and health checks of a run."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from torch.utils.tensorboard import SummaryWriter

from seppo_core.config.loader import plain
from seppo_core.config.schema import Config
from seppo_core.distributed import watch as peers
from seppo_core.distributed.ranks import Ranks, is_loss
from seppo_core.distributed.signals import Stopped
from seppo_core.distributed.store import RunStore
from seppo_core.distributed.watch import PeerLost
from seppo_core.io.locks import FolderLock
from seppo_core.methods.method import Method
from seppo_core.run.display import UpdateDisplay
from seppo_core.run.eta import TimeLeft
from seppo_core.run.health import Health, UnhealthyRun
from seppo_core.run.history import EventName, add_event, read_metrics
from seppo_core.run.logging import RunLog, WeightsAndBiases
from seppo_core.run.previews import Previews, score_metrics, score_text


class RunEvents(AbstractContextManager):
    """Writes into `events.jsonl` of a run's folder how the run went and ended, and frees the folder's lock.

    To be entered on all processes; the first of them holds `lock` and writes.
    """

    def __init__(self, lock: FolderLock, ranks: Ranks, store: RunStore):
        self.folder, self.ranks, self.store = lock.folder, ranks, store
        self._lock = lock

    def __enter__(self) -> "RunEvents":
        if peers.watch is not None:
            peers.watch.told = self._lost
        return self

    def _lost(self, why: str) -> None:
        """For the thread that ends this process when another one is lost."""
        with suppress(OSError):
            add_event(self.folder, "stopped", why=why, rank=self.ranks.rank)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace) -> None:
        if kind is None:
            self.add("finished")
        elif issubclass(kind, Exception | Stopped):
            # on a full disk not even this can be written; what ended the run is told all the same
            with suppress(OSError):
                self._ended(error)
        gone = self._gone() if isinstance(error, Exception) else None
        if self.ranks.is_main:
            self._lock.release()
        if gone is not None:
            # a folder that vanished shows first in whatever file is read next; this says what happened
            raise gone from error

    def add(self, name: EventName, **details: float | int | str) -> None:
        """Writes one event, on the first process."""
        if self.ranks.is_main:
            add_event(self.folder, name, **details)

    def check_folder(self) -> None:
        """OSError if the folder is gone or replaced by another; for the first process to call."""
        if self.ranks.is_main:
            self._lock.check()

    def _gone(self) -> OSError | None:
        try:
            self.check_folder()
        except OSError as error:
            return error
        return None

    def _ended(self, error: BaseException) -> None:
        why = " ".join(str(error).split())[:300]
        if isinstance(error, Stopped):
            self.add("stopped", why=why)
        elif self._first_to_fail():
            # by the process that knows why: its end is the end of the others
            rank = {} if self.ranks.world == 1 else {"rank": self.ranks.rank}
            if isinstance(error, PeerLost) or is_loss(error):
                add_event(self.folder, "stopped", why=f"another process was lost: {why}", **rank)
            else:
                add_event(self.folder, "failed", why=why, **rank)

    def _first_to_fail(self) -> bool:
        try:
            return self.store.fail()
        except RuntimeError:
            # the store went with the process that held it
            return self.ranks.is_main


class RunRecorder(AbstractContextManager):
    """Writes `metrics.jsonl` and TensorBoard, shows progress on the terminal and looks at the run's health.

    The first process writes and shows. The health gates look on every process, which all see the same numbers, so that
    all stop together. None of it moves a weight. It begins after `done` updates; `drawn` is the number of positions
    with draws of their own, if draws come again. UnhealthyRun if a gate has stopped the run before.
    """

    def __init__(self, config: Config, method: Method, events: RunEvents, *, done: int, drawn: int | None = None):
        loop, folder, is_main = config.loop, events.folder, events.ranks.is_main
        self.events = events
        history = [line for line in read_metrics(folder) if line["update"] <= done]
        self._health = Health.of(config.health, method, loop.batch_size, history)
        if self._health.fatal is not None:
            raise UnhealthyRun(self._health.fatal)
        self._stack = ExitStack()
        self._log: RunLog | None = None
        if is_main:
            project = config.log.wandb
            wandb = None if project is None else WeightsAndBiases(project, folder, plain(config))
            self._log = self._stack.enter_context(RunLog(folder, done, wandb))
            events.add("started", update=done, process=os.getpid(), **({} if drawn is None else {"drawn": drawn}))
        updates = loop.updates_per_iteration
        self._pace = TimeLeft(loop.iterations * updates, updates, config.generated, drawn)
        self._display = UpdateDisplay(self._pace, done, description=f"{method.name} on {folder.name}", visible=is_main)
        self._stack.callback(self._display.close)

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    @property
    def writer(self) -> SummaryWriter | None:
        """TensorBoard's, on the first process."""
        return None if self._log is None else self._log.writer

    def pause_display(self) -> None:
        """Takes the bar of the updates away while another one is shown."""
        self._display.pause()

    def say(self, text: str) -> None:
        """Shows a line of its own, on the first process."""
        self._display.say(text)

    def sampled(self, count: int, seconds: float) -> None:
        """Records that `count` generated samples took so many `seconds`."""
        self._pace.samples(count, seconds)
        self.events.add("samples", count=count, seconds=round(seconds, 3))

    def measured(self, count: int, seconds: float) -> None:
        """Records that a reference's errors at `count` positions took so many `seconds`."""
        self._pace.samples(0, seconds)
        self.events.add("errors", count=count, seconds=round(seconds, 3))

    def judged(self, iteration: int, count: int, seconds: float, told: str) -> None:
        """Records that the judge took so many `seconds` for `count` samples of `iteration`; shows what it `told`."""
        # the time of a sample is that of drawing and of scoring it
        self._pace.samples(0, seconds)
        self.events.add("judged", iteration=iteration, count=count, seconds=round(seconds, 3))
        self._display.say(told)

    def updated(self, done: int, metrics: dict[str, float | int]) -> None:
        """After every update: logs, shows, looks at its health. UnhealthyRun if a gate says stop."""
        if self._log is not None:
            self.events.check_folder()
            self._log.write(done, metrics)
        self._display.show(done, metrics)
        for alarm in self._health.look({"update": done, **metrics}):
            self._display.say(f"health: {alarm}")
            self.events.add("alarm", gate=alarm.gate, update=done, since=alarm.since, saw=alarm.saw)
        if self._health.fatal is not None:
            raise UnhealthyRun(self._health.fatal)

    def previewed(self, previews: Previews, update: int) -> None:
        """After a preview was drawn, on the first process: logs and shows its scores, or why it has none."""
        preview = previews.at(update)
        metrics = score_metrics(preview, previews.start)
        if metrics and self._log is not None:
            self._log.write_preview(update, metrics)
        if preview.problem is not None:
            self.events.add("unscored", update=update, why=preview.problem)
        if preview.judge is not None:
            self._display.say(score_text(preview, previews.start))

    @contextmanager
    def saving(self, done: int) -> Iterator[None]:
        """Context of writing the checkpoint after `done` updates, on the first process."""
        self.events.check_folder()
        metrics = {} if self._log is None else {"metrics": self._log.sync()}
        yield
        self.events.add("checkpoint", update=done, **metrics)
