"""Runs what is left of a table, a few processes at a time, and says how far it is."""

import re
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TextIO

from benchmarks.experiments.demo.display import clock
from benchmarks.experiments.demo.process import Launcher, stop
from benchmarks.experiments.demo.runner import TaskFailed
from benchmarks.experiments.toy.places import Places, read_result, write_spec
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.queue import Job, left, next_job, note_failure
from seppo_core.report.status_line import StatusLine

POLL = 0.2
PRELOAD = ("benchmarks.experiments.toy.cell",)
SHOW_EVERY = 5.0
"""Seconds between lines on a terminal; in a file twelve times as long."""
BUSY = 75
"""Exit status of a cell that another process is at work on."""
_TOLD = re.compile(r"(seppo-\w+: |[\w.]*(Error|Exception|Interrupt)\b).*")
"""The line of a log that says why."""


@dataclass
class _Running:
    job: Job
    process: BaseProcess
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def sweep(
    plan: Plan,
    places: Places,
    launcher: Launcher,
    *,
    jobs: int = 2,
    budget: float | None = None,
    stream: TextIO = sys.stdout,
) -> bool:
    """Runs cells until none is left, or none is to be begun any more after `budget` seconds. Whether all are done.

    A cell that fails is noted and left out; TaskFailed where data or a cache fail, or where another process is at work
    on a cell. On SIGTERM (SystemExit), Ctrl-C (KeyboardInterrupt) or any error, the processes that still run are ended;
    the next call goes on with what they left.
    """
    with _Signals() as signals:
        return _sweep(plan, places, launcher, jobs, budget, stream, signals)


class _Signals:
    """Takes SIGTERM and SIGINT between two looks: raised in the middle of a start, a process would be lost sight of."""

    def __enter__(self) -> "_Signals":
        self.received: int | None = None
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _) -> None:
        self.received = number

    def check(self) -> None:
        if self.received == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        if self.received is not None:
            raise KeyboardInterrupt


def _sweep(
    plan: Plan, places: Places, launcher: Launcher, jobs: int, budget: float | None, stream: TextIO, signals: _Signals
) -> bool:
    started = time.monotonic()
    running: list[_Running] = []
    display = StatusLine(stream, SHOW_EVERY, 12 * SHOW_EVERY)
    worked = spent = 0.0
    looked = False  # whether nothing has changed since there was no job to begin: looking reads many files
    try:
        while True:
            signals.check()
            in_time = budget is None or time.monotonic() - started < budget
            while in_time and not looked and len(running) < jobs:
                job = next_job(plan, places, {item.job.name for item in running})
                if job is None:
                    looked = True
                    break
                if job.cell is not None:
                    write_spec(places.cell(job.cell), job.cell)
                running.append(_Running(job, launcher.start(job.command, places.log(job.name))))
            if not running:
                return next_job(plan, places, ()) is None
            for item in [item for item in running if item.process.exitcode is not None]:
                running.remove(item)
                looked = False
                worked, spent = worked + item.job.weight, spent + item.seconds
                display.say(_finish(places, item))
            if running and display.is_due():
                display.show(_status(plan, places, running, worked, spent, jobs))
            time.sleep(POLL)
    finally:
        display.close()
        stop([item.process for item in running])


def _finish(places: Places, item: _Running) -> str:
    """Notes how a job came out; the line that tells of it."""
    job, took = item.job, clock(item.seconds)
    if item.process.exitcode == 0:
        if job.cell is None:
            return f"{job.label}: done in {took}"
        return f"{job.label}: R {read_result(places, job.cell).mean:.3f}, in {took}"
    log = places.log(job.name)
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if _TOLD.match(line)), lines[-1] if lines else "it said nothing")
    reason, status = reason[:300], item.process.exitcode
    # ended from outside, which says nothing about the cell
    if job.cell is None or status < 0 or status in (BUSY, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        raise TaskFailed(f"{job.label} ended with status {status}: {reason} (all of it: {log})")
    note_failure(places, job.cell, reason)
    return f"{job.label}: FAILED, {reason} (all of it: {log})"


def _status(plan: Plan, places: Places, running: list[_Running], worked: float, spent: float, jobs: int) -> str:
    count, weight = left(plan, places)
    text = f"{count} cells left, now " + "; ".join(f"{item.job.label} ({clock(item.seconds)})" for item in running)
    if not worked:
        return text
    behind = sum(min(item.seconds * worked / spent, 0.9 * item.job.weight) for item in running)
    return f"{text}; about {clock(max(0.0, weight - behind) * spent / worked / jobs)} left"
