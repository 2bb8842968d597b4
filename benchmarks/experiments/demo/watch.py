"""Where a running task stands, seen from outside by the files it writes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seppo_core.config.loader import load_config
from seppo_core.config.schema import Config


class Step(NamedTuple):
    """What a task is at: `done` of `total` units (updates, samples), and the share of its time that is behind it."""

    unit: str
    done: int
    total: int
    share: float
    note: str = ""


Watch = Callable[[], Step | None]
"""None: nothing can be seen yet."""

FILL = 0.57  # of an iteration's time goes into the reference's samples: what was measured on the toy models


def watch_training(folder: Path, schema: type[Config]) -> Watch:
    """Follows a `train` command by the metrics and the samples in its run folder."""
    known: list[Config] = []

    def watch() -> Step | None:
        if not known:
            if not (folder / "config.yaml").is_file():
                return None
            known.append(load_config(folder / "config.yaml", schema))
        loop, method = known[0].loop, known[0].method
        done = lines(folder / "metrics.jsonl")
        total = loop.iterations * loop.updates
        iteration, inside = divmod(done, loop.updates)
        if method.name == "sft":
            return Step("update", done, total, done / total)
        filled, note = 1.0, ""
        if inside == 0 and iteration < loop.iterations:
            size = loop.updates * loop.batch_size
            batch = known[0].reference_samples.batch_size
            chunks = len(list((folder / "buffer").glob(f"iteration-{iteration:04d}-by-*/samples-*.safetensors")))
            filled = min(1.0, chunks * batch / size)
            if filled < 1:
                note = f", reference sample {min(chunks * batch, size)}/{size}"
        within = FILL * filled + (1 - FILL) * inside / loop.updates if iteration < loop.iterations else 0.0
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


def lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def judge_progress(scores: Path, arms: Sequence[str]) -> Path:
    """The file that a judge of `arms` counts in; `scores` is the folder of all arms' scores."""
    return scores / f".{arms[0]}.progress"
