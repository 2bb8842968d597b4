"""What a run writes down as it goes: metrics.jsonl, TensorBoard, and lines or a bar on the terminal."""

import json
import math
import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from seppo_core.files import save_text


class RunLog:
    """One line of JSON per update in `metrics.jsonl` and the same scalars in TensorBoard.

    A resumed run drops what was logged after its checkpoint: those updates are done, and logged, again.
    """

    def __init__(self, folder: Path, update: int):
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            kept = [line for line in _whole_lines(self.path) if json.loads(line)["update"] <= update]
            save_text(self.path, "".join(kept))
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1 if update else None)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)

    def write(self, update: int, metrics: dict[str, float | int]) -> None:
        """Logs the scalars of `update` (1-based: how many are done with it)."""
        # JSON has no infinity and no NaN; a skipped update's gradient norm is null
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"update": update, **finite}) + "\n")
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, update)

    def close(self) -> None:
        self._file.close()
        self.writer.close()


def read_metrics(folder: Path) -> list[dict]:
    """The metrics of a run folder, one dictionary per update; a line that was being written at a crash is left out."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []


def progress_bar(total: int, initial: int = 0, *, unit: str, description: str, visible: bool = True) -> tqdm:
    """A bar with rate and time left; on a plain terminal or in a file it prints at most one line every 30 seconds."""
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        disable=not visible,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        leave=True,
    )


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]
