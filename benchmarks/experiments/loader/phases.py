"""The phases that are measured, each in a process of its own:

`python -m benchmarks.experiments.loader.phases PHASE JSON`.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.experiments.loader.memory import MemoryLog
from benchmarks.experiments.loader.standin import MadeUpPictures, Sizes, StandInAdapter
from seppo_core.cache.prepare import prepare
from seppo_core.cache.reader import WinnerCache
from seppo_core.training.batches import BatchMaker, WinnerOrder
from seppo_core.training.prefetch import Prefetch


@dataclass(frozen=True)
class Task:
    """What one process is to do in `folder`."""

    folder: str
    items: int
    sizes: dict[str, int]
    name: str
    """Of the log."""
    batch_size: int = 64
    batches: int = 0
    threads: int = 0
    """That make batches ahead; 0 makes each when it is asked for."""


def run_prepare(task: Task) -> float:
    """Seconds that encoding the whole set takes."""
    sizes = Sizes(**task.sizes)
    source, read = MadeUpPictures(task.items, sizes), 0

    class Counting(MadeUpPictures):
        def item(self, position: int):
            nonlocal read
            read += 1
            return super().item(position)

    source = Counting(task.items, sizes)
    with MemoryLog(Path(task.folder) / f"{task.name}.jsonl", lambda: read):
        began = time.perf_counter()
        prepare(StandInAdapter(sizes), source, Path(task.folder) / "cache", model="stand-in", batch_size=64)
        return time.perf_counter() - began


def run_load(task: Task) -> float:
    """Seconds that making the batches takes, as the trainer makes them: posterior, text, noises, timesteps."""
    torch.set_num_threads(1)
    cache = WinnerCache(Path(task.folder) / "cache")
    order = WinnerOrder(len(cache), 0)
    maker = BatchMaker(cache, order, StandInAdapter(Sizes(**task.sizes)), 0, task.batch_size, caption_dropout=0.1)
    made, device = 0, torch.device("cpu")
    # the permutation of the first epoch is not the loader's pace
    order.item(0)
    with MemoryLog(Path(task.folder) / f"{task.name}.jsonl", lambda: made * task.batch_size):
        began = time.perf_counter()
        make = lambda update: maker.make(update, range(task.batch_size), None, device)  # noqa: E731
        threads = max(1, task.threads)
        with Prefetch(make, range(task.batches), 2 * task.threads, threads) as batches:
            for batch in batches:
                made += 1
                assert len(batch.winner) == task.batch_size
        return time.perf_counter() - began


PHASES = {"prepare": run_prepare, "load": run_load}


def arguments(phase: str, task: Task) -> list[str]:
    """The command that runs `phase` in a process of its own."""
    return [sys.executable, "-m", "benchmarks.experiments.loader.phases", phase, json.dumps(asdict(task))]


if __name__ == "__main__":
    print(json.dumps({"seconds": PHASES[sys.argv[1]](Task(**json.loads(sys.argv[2])))}))
