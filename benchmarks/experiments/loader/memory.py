"""Memory of this process over time, as Linux counts it."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from benchmarks.experiments.process_status import memory_of

FIELDS = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "mapped"}
"""Of /proc/self/status: all resident memory; what the process allocated; pages of files, which the system may drop."""


def read_memory() -> dict[str, float]:
    """In MB. FileNotFoundError on systems without /proc."""
    counted = memory_of()
    return {name: counted[field] / 1e6 for field, name in FIELDS.items()}


class MemoryLog:
    """Writes a line of memory, seconds and progress every `interval` seconds, from a thread."""

    def __init__(self, path: Path, done: Callable[[], int], interval: float = 0.25):
        self.path, self.done, self.interval = path, done, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        began = time.perf_counter()
        with self.path.open("w", encoding="utf-8") as file:
            while True:
                line = {"seconds": time.perf_counter() - began, "done": self.done()} | read_memory()
                file.write(json.dumps(line) + "\n")
                if self._stop.wait(self.interval):
                    return

    def __enter__(self) -> "MemoryLog":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


def read_log(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
