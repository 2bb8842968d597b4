"""Runs a graph of tasks as processes, a few at a time, and says all along how far they are."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.experiments.demo.plan import Task
from benchmarks.experiments.demo.process import Launcher, stop
from benchmarks.experiments.demo.watch import Step

POLL = 0.2


class TaskFailed(RuntimeError):
    """A task ended with an error; the message holds the end of its log."""


@dataclass
class Running:
    """A process and when it began."""

    task: Task
    process: BaseProcess
    started: float
    first: Step | None = None
    """The first step seen: what an earlier, interrupted run did is no measure of this one's pace."""
    step: Step | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> None:
        """Sees anew where the task is."""
        self.step = self.task.watch()
        self.first = self.first or self.step


@dataclass(frozen=True)
class State:
    """What a display is shown."""

    running: Sequence[Running]
    finished: int
    total: int
    elapsed: float
    left: float | None
    """Seconds until all is done, estimated; None until there is anything to go by."""


def run_tasks(
    tasks: Sequence[Task],
    done: dict[str, float],
    log_of: Callable[[str], Path],
    launcher: Launcher,
    *,
    workers: int,
    show: Callable[[State], None],
    finished: Callable[[Task, float], None],
) -> None:
    """Runs all `tasks` that are not in `done`, each after those it needs, `workers` at a time.

    `finished` is called with a task and its seconds. Raises TaskFailed at the first failure; then, and on Ctrl-C, the
    processes that still run are ended first.
    """
    waiting = [task for task in tasks if task.name not in done]
    complete = {task.name for task in tasks if task.name in done}
    running: list[Running] = []
    clock = time.monotonic()
    worked = 0.0  # weight finished in this call, for the estimate of what is left
    spent = 0.0  # seconds of worker time that it took
    try:
        while waiting or running:
            for task in _next(waiting, complete, running, workers):
                waiting.remove(task)
                task.clear()
                started = time.monotonic()
                running.append(Running(task, launcher.start(task.command, log_of(task.name)), started))
            for item in [item for item in running if item.process.exitcode is not None]:
                running.remove(item)
                if item.process.exitcode != 0:
                    raise TaskFailed(_failure(item, log_of(item.task.name)))
                complete.add(item.task.name)
                worked, spent = worked + item.task.weight, spent + item.seconds
                finished(item.task, item.seconds)
            show(_state(waiting, running, complete, len(tasks), time.monotonic() - clock, worked, spent, workers))
            time.sleep(POLL)
    finally:
        stop([item.process for item in running])


def _next(waiting: list[Task], complete: set[str], running: list[Running], workers: int) -> list[Task]:
    """The tasks to begin now: of the modality with the fewest running, then in the plan's order."""
    chosen: list[Task] = []
    while len(running) + len(chosen) < workers:
        ready = [task for task in waiting if task not in chosen and complete.issuperset(task.needs)]
        if not ready:
            break
        busy = [item.task.modality for item in running] + [task.modality for task in chosen]
        left = [task.modality for task in waiting]
        chosen.append(min(ready, key=lambda task: (busy.count(task.modality), -left.count(task.modality))))
    return chosen


def _failure(item: Running, log: Path, shown: int = 15) -> str:
    # a process that never came up has no log
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n") if log.exists() else ""
    tail = "\n".join([f"  {line}" for line in text.splitlines() if line.strip()][-shown:])
    command = " ".join(("python", *item.task.command))
    return f"{item.task.name} ended with status {item.process.exitcode}: {command}\n{tail}\n  (all of it: {log})"


def _state(waiting, running, complete, total, elapsed, worked, spent, workers) -> State:
    """Seconds left, from the pace of what is done: the tasks' weights in worker seconds, shared by the workers."""
    to_do = sum(task.weight for task in waiting)
    longest = 0.0
    for item in running:
        item.look()
        share = 0.0 if item.step is None else item.step.share
        if item.step is not None:
            worked, spent = worked + share * item.task.weight, spent + item.seconds
        to_do += (1 - share) * item.task.weight
        longest = max(longest, (1 - share) * item.task.weight)
    left = None if worked < 10 else max(to_do / workers, longest) * spent / worked
    return State(running, len(complete), total, elapsed, left)
