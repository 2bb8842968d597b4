"""Runs the demo's graph of tasks, and says all along how far they are."""

import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmarks.experiments.toy.demo_plan import Task
from benchmarks.experiments.toy.demo_watch import Step
from benchmarks.experiments.toy.processes import Launcher, Running, TaskFailed, read_log, run_jobs
from seppo_core.report.status_line import StatusLines
from seppo_core.run.eta import clock

LIVE, PLAIN = 0.5, 10.0
"""Seconds between two looks at the status, on a terminal and in a file."""
SURE = 10.0
"""Expected seconds of work that have to be done before the time left is told."""
LOG_LINES = 15
"""Lines of a failed task's log that are shown."""


@dataclass(frozen=True)
class Seen:
    """Where a running task stands after `seconds`."""

    task: Task
    seconds: float
    first: Step | None
    """The first step that was seen: what an earlier, interrupted run did is not a measure of this one's pace."""
    step: Step | None


@dataclass(frozen=True)
class State:
    """Where the whole demo stands."""

    running: Sequence[Seen]
    finished: int
    total: int
    elapsed: float
    left: float | None
    """Estimated seconds until all is done; None until there is anything to go by."""


def run_tasks(
    tasks: Sequence[Task],
    done: dict[str, float],
    log_of: Callable[[str], Path],
    launcher: Launcher,
    *,
    workers: int,
    finished: Callable[[str, float, Callable[[str], None]], None],
    seen: Callable[[list[str]], None] = lambda lines: None,
    stream: TextIO = sys.stdout,
) -> None:
    """Runs all `tasks` that are not in `done`, each after those it needs, `workers` at a time.

    `finished` is called with a task's name, its seconds, and what prints lines that stay; `seen` with the lines that
    say how far all is. Raises TaskFailed at the first failure; then, and on Ctrl-C, the processes that still run are
    ended first.
    """
    waiting = [task for task in tasks if task.name not in done]
    complete = {task.name for task in tasks if task.name in done}
    firsts: dict[str, Step] = {}
    began = time.monotonic()
    lines = StatusLines(stream, LIVE, PLAIN)
    worked = 0.0  # weight finished in this call, for the estimate of what is left
    spent = 0.0  # seconds of worker time that it took

    def next_task(running: list[Running]) -> Task | None:
        task = choose(waiting, [item.job for item in running], complete)
        if task is not None:
            waiting.remove(task)
        return task

    def ended(item: Running) -> None:
        nonlocal worked, spent
        if item.process.exitcode != 0:
            raise TaskFailed(_failure(item, log_of(item.job.name)))
        complete.add(item.job.name)
        worked, spent = worked + item.job.weight, spent + item.seconds
        lines.say(f"{_head(item.job)}: done in {clock(item.seconds)}")
        finished(item.job.name, item.seconds, lines.say)

    def show(running: list[Running]) -> None:
        if not running or not lines.is_due():
            return
        found = []
        for item in running:
            step = item.job.watch()
            first = None if step is None else firsts.setdefault(item.job.name, step)
            found.append(Seen(item.job, item.seconds, first, step))
        left = time_left(waiting, found, worked, spent, workers)
        state = State(found, len(complete), len(tasks), time.monotonic() - began, left)
        told = [*map(task_line, found), overall_line(state)]
        lines.show(*told)
        seen(told)

    try:
        run_jobs(launcher, next_task, log_of, workers=workers, ended=ended, show=show)
    finally:
        lines.close()


def choose(waiting: Sequence[Task], running: Sequence[Task], complete: Collection[str]) -> Task | None:
    """The task to begin now, or None: the first of the plan that can begin, of the first modality if there is one.

    Another modality gets a worker once all that is left of the first follows directly on what is running: before that,
    a long task of it would keep the first from a worker that it can soon use.
    """
    if not waiting:
        return None
    first = waiting[0].modality
    ready = [task for task in waiting if complete.issuperset(task.needs)]
    chosen = next((task for task in ready if task.modality == first), None)
    if chosen is not None:
        return chosen
    at_hand = {*complete, *(task.name for task in running)}
    is_last = all(at_hand.issuperset(task.needs) for task in waiting if task.modality == first)
    return next(iter(ready), None) if is_last else None


def time_left(
    waiting: Sequence[Task], running: Sequence[Seen], worked: float, spent: float, workers: int
) -> float | None:
    """Seconds left, from the pace of what is done: the tasks' weights in worker seconds, shared by the workers."""
    to_do = sum(task.weight for task in waiting)
    longest = 0.0
    for item in running:
        share = 0.0 if item.step is None else item.step.share
        if item.step is not None:
            worked, spent = worked + share * item.task.weight, spent + item.seconds
        to_do += (1 - share) * item.task.weight
        longest = max(longest, (1 - share) * item.task.weight)
    return None if worked < SURE else max(to_do / workers, longest) * spent / worked


def task_line(item: Seen) -> str:
    """The line of one running task: where it is, how fast, and how long it will take."""
    step, first = item.step, item.first
    if step is None or first is None:
        return f"{_head(item.task)}: running for {clock(item.seconds)}"
    at = f"{_head(item.task)}: {step.unit} {step.done}/{step.total}{step.note}"
    made = step.done - first.done
    speed = f", {made / item.seconds:.1f} {step.unit}s/s" if made else ""
    gained = step.share - first.share
    left = f", {clock((1 - step.share) / gained * item.seconds)} left" if gained > 0 else ""
    return f"{at} ({100 * step.share:.0f} %){speed}{left}"


def overall_line(state: State) -> str:
    """The line of the demo as a whole."""
    left = "" if state.left is None else f", about {clock(state.left)} left"
    return f"demo   {state.finished} of {state.total} steps done, {clock(state.elapsed)} so far{left}"


def _head(task: Task) -> str:
    return f"{task.modality:5}  {task.label}"


def _failure(item: Running, log: Path) -> str:
    tail = "\n".join(f"  {line}" for line in read_log(log)[-LOG_LINES:])
    command = " ".join(("python", *item.job.command))
    return f"{item.job.name} ended with status {item.process.exitcode}: {command}\n{tail}\n  (all of it: {log})"
