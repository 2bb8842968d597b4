"""Runs a command in a process of its own and looks at its memory while it runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.process_status import memory_of

EVERY = 0.2
"""Seconds between two looks."""


class CommandFailed(RuntimeError):
    """A command ended with another status than 0; says what it printed last."""


@dataclass(frozen=True)
class Watched:
    """What a command took."""

    seconds: float
    peak: int
    """Bytes: the most that the process had in memory (the system's own count, mapped files included)."""
    looks: list[tuple[float, int]]
    """Seconds since 1970, and bytes in memory then."""

    def peak_between(self, begin: float, end: float) -> int:
        """The most that was seen from `begin` to `end`, in seconds since 1970; 0 where there was no look."""
        return max((size for moment, size in self.looks if begin <= moment <= end), default=0)


def watch(command: list[str], root: Path, log: Path, threads: int, tick: Callable[[], None] = lambda: None) -> Watched:
    """Runs `python COMMAND` in `root`, its output appended to `log`; `tick` is called at every look.

    CommandFailed where it ends with another status than 0.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        # what is freed goes back to the system at once, so that the system's count is that of what is alive
        "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": str(root),
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    looks, peak, begin = [], 0, time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                sizes = _memory(process.pid)
                if sizes is not None:
                    looks.append((time.time(), sizes[0]))
                    peak = max(peak, sizes[1])
                tick()
                time.sleep(EVERY)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise CommandFailed(f"python {' '.join(command)} ended with status {process.returncode}:\n{last}")
    return Watched(time.monotonic() - begin, peak, looks)


def _memory(process: int) -> tuple[int, int] | None:
    """Bytes in memory now and at most so far; None once the process has ended."""
    try:
        counted = memory_of(process)
    except OSError:
        return None
    return (counted["VmRSS"], counted["VmHWM"]) if counted else None
