"""Runs `python -m ...` commands a few at a time, each in a process of its own that has the libraries imported."""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import psutil

POLL = 0.2
"""Seconds between two looks at the processes."""
PRELOAD = ("seppo_image.commands", "seppo_video.commands", "benchmarks.experiments.toy.judge")
# One thread is faster than two on models this small, and leaves the other core to the other modality. Nothing is
# downloaded: a base or an encoder that is missing must be said at once. transformers would tell every process, on the
# terminal, that torchvision is not installed.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


class TaskFailed(RuntimeError):
    """A command ended with an error that ends everything; the message says why."""


class Job(Protocol):
    """A command with a name; `command` is what follows `python`."""

    name: str
    command: tuple[str, ...]


@dataclass
class Running:
    """A job's process and when it was started."""

    job: Job
    process: BaseProcess | None
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Launcher:
    """Starts commands. Importing torch and diffusers takes longer than some of them, so that it is done once, in a
    server that every command is forked from; on a system that cannot fork, each command imports for itself.

    A command runs as `python -m MODULE ARGUMENTS` (or `python -c CODE`) would: the same module as `__main__`, the same
    `sys.argv`, the same exit status.
    """

    def __init__(self, root: Path, preload: Sequence[str] = PRELOAD):
        self.root = root
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self.context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self.context.set_forkserver_preload(list(preload))

    def warm(self) -> None:
        """Has the server begin to import, while the caller does something else."""
        if self.context.get_start_method() == "forkserver":
            from multiprocessing import forkserver  # there is none on Windows

            with _environment():
                forkserver.ensure_running()

    def start(self, command: tuple[str, ...], log: Path) -> BaseProcess:
        """Starts `command` in `root`; what it prints is appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self.context.Process(target=run_command, args=(command, str(self.root), str(log.resolve())))
        # the server takes its environment over from the first start, and hands it on
        with _environment():
            process.start()
        return process


def run_jobs(
    launcher: Launcher,
    next_job: Callable[[list[Running]], Job | None],
    log_of: Callable[[str], Path],
    *,
    workers: int,
    ended: Callable[[Running], None],
    show: Callable[[list[Running]], None],
) -> None:
    """Runs jobs, at most `workers` at a time, until `next_job` has none and all have ended.

    `next_job` is given the running jobs; `ended` is called with each that has ended, whatever its exit status, and
    `show` at every look. On SIGTERM (SystemExit), Ctrl-C (KeyboardInterrupt) or any error, the processes that still run
    are ended first.
    """
    running: list[Running] = []
    with _Signals() as signals:
        try:
            while True:
                signals.check()
                while len(running) < workers and (job := next_job(running)) is not None:
                    running.append(Running(job, launcher.start(job.command, log_of(job.name))))
                if not running:
                    return
                for item in [item for item in running if item.process.exitcode is not None]:
                    running.remove(item)
                    ended(item)
                show(running)
                time.sleep(POLL)
        finally:
            stop([item.process for item in running])


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


def read_log(log: Path) -> list[str]:
    """The lines of a log that say something; none for a process that never came up."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n") if log.is_file() else ""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def processor_seconds() -> float | None:
    """What this process, those it started and theirs have used, ended ones too; None where no system counts those."""
    if sys.platform != "linux":
        return None
    this = psutil.Process()
    # the server that commands are forked from lives on, and has the times of those that ended
    return sum(sum(process.cpu_times()[:4]) for process in (this, *this.children(recursive=True)))


def stop(processes: Sequence[BaseProcess]) -> None:
    """Ends processes: asks first, and kills after ten seconds."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=10)
        if process.exitcode is None:
            process.kill()
            process.join()


def run_command(command: tuple[str, ...], root: str, log: str) -> None:
    """Runs one command; the target of the new process."""
    # appended to: after a resume the log still says what went wrong before
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(ENVIRONMENT)
    os.chdir(root)
    sys.path.insert(0, root)
    kind, name, *arguments = command
    sys.argv = [name, *arguments]
    if kind == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        exec(compile(name, "<command>", "exec"), {"__name__": "__main__"})


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
