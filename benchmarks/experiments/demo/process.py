"""A `python -m ...` command in a process of its own, which starts with the libraries imported already."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = ("seppo_image.commands", "seppo_video.commands", "benchmarks.experiments.demo.judge")
# One thread is faster than two on models this small, and leaves the other core to the other modality. Nothing is
# downloaded: a base or an encoder that is missing must be said at once. transformers would tell every process, on the
# terminal, that torchvision is not installed.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


class Launcher:
    """Starts commands. Importing torch and diffusers takes longer than some of them, so that it is done once, in a
    server that every command is forked from; where the system cannot fork, each imports for itself.

    A command runs as `python -m MODULE ARGUMENTS` (or `python -c CODE`) would: the same module as `__main__`, the same
    `sys.argv`, the same exit status.
    """

    def __init__(self, root: Path, preload: Sequence[str] = PRELOAD):
        self.root = root
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self.context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self.context.set_forkserver_preload(list(preload))

    def start(self, command: tuple[str, ...], log: Path) -> BaseProcess:
        """Starts `command` in `root`; what it prints is appended to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self.context.Process(target=run_command, args=(command, str(self.root), str(log.resolve())))
        # the server takes its environment over from the first start, and hands it on
        with _environment():
            process.start()
        return process


def stop(processes: Sequence[BaseProcess]) -> None:
    """Ends them: asked first, killed after ten seconds."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=10)
        if process.exitcode is None:
            process.kill()
            process.join()


def run_command(command: tuple[str, ...], root: str, log: str) -> None:
    """What the new process does."""
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
