"""`python -m benchmarks.experiments.loader_phases PHASE JSON` runs one phase of the loader's benchmark and logs memory.

Each phase runs in a process of its own, so that its memory is its own.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from benchmarks.experiments.standin import MadeUpPictures, Sizes, StandInAdapter
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.prefetch import Prefetch


def read_memory() -> dict[str, float]:
    """Memory of this process in MB: all that is resident, what the process allocated, and mapped pages of files."""
    counted = psutil.Process().memory_info()
    # `shared` is what Linux counts as pages of files, which the system may drop; other systems do not tell it apart
    mapped = counted._asdict().get("shared", 0)
    return {"resident": counted.rss / 1e6, "own": (counted.rss - mapped) / 1e6, "mapped": mapped / 1e6}


@contextmanager
def memory_log(path: Path, done: Callable[[], int], interval: float = 0.25) -> Iterator[None]:
    """Writes a line of memory, seconds and progress to `path` every `interval` seconds, from a thread."""
    stop, began = threading.Event(), time.perf_counter()

    def write() -> None:
        with path.open("w", encoding="utf-8") as file:
            while True:
                line = {"seconds": time.perf_counter() - began, "done": done()} | read_memory()
                file.write(json.dumps(line) + "\n")
                if stop.wait(interval):
                    return

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines that `memory_log` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Task:
    """The work of one process in `folder`."""

    folder: str
    items: int
    sizes: dict[str, int]
    name: str
    """Name of the log."""
    batch_size: int = 64
    batches: int = 0
    threads: int = 0
    """Threads that make batches ahead; 0 makes each batch when it is asked for."""


def run_prepare(task: Task) -> float:
    """Seconds that encoding the whole set takes."""
    sizes = Sizes(**task.sizes)
    read = 0

    class Counting(MadeUpPictures):
        def item(self, position: int):
            nonlocal read
            read += 1
            return super().item(position)

    source = Counting(task.items, sizes)
    with memory_log(Path(task.folder) / f"{task.name}.jsonl", lambda: read):
        began = time.perf_counter()
        prepare(StandInAdapter(sizes), source, Path(task.folder) / "cache", model="stand-in", batch_size=64)
        return time.perf_counter() - began


def run_load(task: Task) -> float:
    """Seconds that making the batches takes, as the trainer makes them: posterior, text, noises, timesteps."""
    torch.set_num_threads(1)
    cache = WinnerCache(Path(task.folder) / "cache")
    order = WinnerOrder(len(cache), 0)
    maker = BatchMaker(
        cache=cache, order=order, noise_path=StandInAdapter(Sizes(**task.sizes)).path, seed=0,
        batch_size=task.batch_size, caption_dropout=0.1,
    )  # fmt: skip
    made, device = 0, torch.device("cpu")
    # the permutation of the first epoch is not the loader's pace
    order.item(0)
    with memory_log(Path(task.folder) / f"{task.name}.jsonl", lambda: made * task.batch_size):
        began = time.perf_counter()
        make = lambda update: maker.make(update, range(task.batch_size), None, device)  # noqa: E731
        threads = max(1, task.threads)
        with Prefetch(make, range(task.batches), 2 * task.threads, threads) as batches:
            for batch in batches:
                made += 1
                assert len(batch.x0) == task.batch_size
        return time.perf_counter() - began


PHASES = {"prepare": run_prepare, "load": run_load}


def arguments(phase: str, task: Task) -> list[str]:
    """The command that runs `phase` in a process of its own."""
    return [sys.executable, "-m", "benchmarks.experiments.loader_phases", phase, json.dumps(asdict(task))]


if __name__ == "__main__":
    print(json.dumps({"seconds": PHASES[sys.argv[1]](Task(**json.loads(sys.argv[2])))}))
