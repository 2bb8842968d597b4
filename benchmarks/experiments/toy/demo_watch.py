"""How far the demo's processes are, read from the files that they write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.experiments.toy.arms import passes_per_item
from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config


class Step(NamedTuple):
    """Where a task stands: `done` of `total` units (updates, samples), and the share of its time that has passed."""

    unit: str
    done: int
    total: int
    share: float
    note: str = ""


Watch = Callable[[], Step | None]
"""None: nothing can be seen yet."""


def watch_training(folder: Path, schema: type[Config]) -> Watch:
    """Follows a `train` command by the metrics and the samples in its run folder."""
    known: list[Config] = []

    def watch() -> Step | None:
        if not known:
            if not (folder / "config.yaml").is_file():
                return None
            known.append(load_config(folder / "config.yaml", schema))
        config = known[0]
        loop, drawing = config.loop, config.reference_samples
        done = lines(folder / "metrics.jsonl")
        total = loop.iterations * loop.updates_per_iteration
        iteration, inside = divmod(done, loop.updates_per_iteration)
        if config.method.spec.counterpart != "generated" or iteration == loop.iterations:
            return Step("update", done, total, done / total)
        size, filled, note = config.generated, 1.0, ""
        if inside == 0:
            chunks = len(list((folder / "buffer").glob(f"iteration-{iteration:04d}-by-*/samples-*.safetensors")))
            there = min(size, chunks * drawing.batch_size)
            filled, note = there / size, f", reference sample {there}/{size}" if there < size else ""
        fill = drawing.steps / passes_per_item(config.method, drawing)  # the samples' share of an iteration's time
        within = fill * filled + (1 - fill) * inside / loop.updates_per_iteration
        return Step("update", done, total, (iteration + within) / loop.iterations, note)

    return watch


def watch_judge(progress: Path) -> Watch:
    """Follows the judge by the counts it leaves in a file of its own."""

    def watch() -> Step | None:
        try:
            done, total = json.loads(progress.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Step("sample", done, total, done / total)

    return watch


def watch_lines(path: Path, total: int) -> Watch:
    """Follows a `rank` command by the index of the samples that it has drawn."""

    def watch() -> Step | None:
        done = lines(path)
        return Step("sample", done, total, min(1.0, done / total)) if done else None

    return watch


def lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def judge_progress(scores: Path, arm: str) -> Path:
    """The file that the judge of `arm` counts in; `scores` is the folder of all arms' scores."""
    return scores / f".{arm}.progress"
