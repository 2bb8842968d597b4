"""Runs what is left of a table, a few processes at a time, and says how far it is."""

import re
import signal
import sys
import time
from typing import TextIO

from benchmarks.experiments.toy.folder import Paths, read_result, write_spec
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.processes import Launcher, Running, TaskFailed, read_log, run_jobs
from benchmarks.experiments.toy.queue import Job, left, next_job, note_failure
from seppo_core.report.status_line import StatusLines
from seppo_core.run.eta import clock

PRELOAD = ("benchmarks.experiments.toy.cell",)
SHOW_EVERY = 5.0
"""Seconds between lines on a terminal; in a file twelve times as long."""
BUSY = 75
"""Exit status of a cell that another process is at work on."""
_TOLD = re.compile(r"(seppo-\w+: |[\w.]*(Error|Exception|Interrupt)\b).*")
"""The line of a log that says why."""


def sweep(
    plan: Plan,
    paths: Paths,
    launcher: Launcher,
    *,
    jobs: int = 2,
    budget: float | None = None,
    stream: TextIO = sys.stdout,
) -> bool:
    """Runs cells until none is left, or none is to be begun any more after `budget` seconds. Whether all are done.

    A cell that fails is noted and left out; TaskFailed if data or a cache fail, or if another process is at work
    on a cell. On SIGTERM (SystemExit), Ctrl-C (KeyboardInterrupt) or any error, the processes that still run are ended;
    the next call goes on with what they left.
    """
    started = time.monotonic()
    lines = StatusLines(stream, SHOW_EVERY, 12 * SHOW_EVERY)
    worked = spent = 0.0
    looked = False  # whether nothing has changed since there was no job to begin: looking reads many files

    def begin(running: list[Running]) -> Job | None:
        nonlocal looked
        if looked or (budget is not None and time.monotonic() - started >= budget):
            return None
        job = next_job(plan, paths, {item.job.name for item in running})
        looked = job is None
        if job is not None and job.cell is not None:
            write_spec(paths.cell(job.cell), job.cell)
        return job

    def ended(item: Running) -> None:
        nonlocal looked, worked, spent
        looked = False
        worked, spent = worked + item.job.weight, spent + item.seconds
        lines.say(_finish(paths, item))

    def show(running: list[Running]) -> None:
        if running and lines.is_due():
            lines.show(_status(plan, paths, running, worked, spent, jobs))

    try:
        run_jobs(launcher, begin, paths.log, workers=jobs, ended=ended, show=show)
    finally:
        lines.close()
    return next_job(plan, paths, ()) is None


def _finish(paths: Paths, item: Running) -> str:
    """Notes how a job came out; the line that tells of it."""
    job, took = item.job, clock(item.seconds)
    if item.process.exitcode == 0:
        if job.cell is None:
            return f"{job.label}: done in {took}"
        return f"{job.label}: R {read_result(paths, job.cell).mean:.3f}, in {took}"
    log = paths.log(job.name)
    lines = [line.strip() for line in read_log(log)]
    reason = next((line for line in reversed(lines) if _TOLD.match(line)), lines[-1] if lines else "it said nothing")
    reason, status = reason[:300], item.process.exitcode
    # ended from outside, which says nothing about the cell
    if job.cell is None or status < 0 or status in (BUSY, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        raise TaskFailed(f"{job.label} ended with status {status}: {reason} (all of it: {log})")
    note_failure(paths, job.cell, reason)
    return f"{job.label}: FAILED, {reason} (all of it: {log})"


def _status(plan: Plan, paths: Paths, running: list[Running], worked: float, spent: float, jobs: int) -> str:
    count, weight = left(plan, paths)
    text = f"{count} cells left, now " + "; ".join(f"{item.job.label} ({clock(item.seconds)})" for item in running)
    if not worked:
        return text
    behind = sum(min(item.seconds * worked / spent, 0.9 * item.job.weight) for item in running)
    return f"{text}; about {clock(max(0.0, weight - behind) * spent / worked / jobs)} left"
