"""Logs of a run: metrics.jsonl, TensorBoard and, if asked for, Weights & Biases."""

import json
import math
import secrets
from contextlib import ExitStack, nullcontext, suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from seppo_core.io.atomic import flush, save_text
from seppo_core.io.disk_errors import explain_disk_errors
from seppo_core.run.history import METRICS, as_recorded, read_lines, update_lines


class WeightsAndBiases:
    """One run of a wandb project; a resumed run continues it, by the id in the run folder's `wandb.txt`.

    Whether it talks to a server is up to wandb (WANDB_MODE=offline keeps it on disk).
    """

    def __init__(self, project: str, folder: Path, config: dict[str, Any]):
        require_wandb()
        import wandb

        path = folder / "wandb.txt"
        if not path.exists():
            save_text(path, secrets.token_hex(4) + "\n")
        self._run = wandb.init(
            project=project, name=folder.name, id=path.read_text(encoding="utf-8").strip(), resume="allow",
            dir=str(folder), config=config,
        )  # fmt: skip

    def write(self, update: int, metrics: dict[str, float | int]) -> None:
        """Scalars of one update; wandb leaves out updates that it has already, which a resumed run does again."""
        self._run.log(dict(metrics), step=update)

    def close(self) -> None:
        self._run.finish()


def require_wandb() -> None:
    """Raises ValueError if wandb is not installed; call it before loading weights."""
    if find_spec("wandb") is None:
        raise ValueError("log.wandb names a project, but wandb is not installed: pip install wandb, or leave it out")


class RunLog:
    """One line of JSON per update in `metrics.jsonl`, one per scored preview, and the same scalars in TensorBoard.

    A resumed run drops what was logged after its checkpoint: those updates are done, and logged, again.
    """

    def __init__(self, folder: Path, update: int, wandb: WeightsAndBiases | None = None):
        self.path = folder / METRICS
        text = ""
        if self.path.exists():
            kept = [line for line in read_lines(self.path) if _when(line) <= update]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            save_text(self.path, text)
        if not as_recorded(folder, update, b"".join(update_lines(text.encode()))):
            tqdm.write(
                f"{self.path} is not as it was written up to update {update}: lines were changed or lost. No weight "
                "depends on them, but its curves and the health gates do"
            )
        self._wandb = wandb
        with explain_disk_errors(folder / "tensorboard"):
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=update + 1 if update else None)
        with explain_disk_errors(self.path):
            self._file = self.path.open("a", encoding="utf-8", buffering=1)

    def write(self, update: int, metrics: dict[str, float | int]) -> None:
        """Logs the scalars of `update` (1-based: how many are done with it)."""
        self._write("update", update, metrics)

    def write_preview(self, update: int, metrics: dict[str, float]) -> None:
        """Logs the scores of the preview after `update`."""
        self._write("preview", update, metrics)

    def _write(self, what: str, update: int, metrics: dict[str, float | int]) -> None:
        # JSON has no infinity and no NaN; a skipped update's gradient norm is null
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with explain_disk_errors(self.path):
            self._file.write(json.dumps({what: update, **finite}) + "\n")
        with explain_disk_errors(self.path.with_name("tensorboard")):
            for name, value in metrics.items():
                self.writer.add_scalar(name, value, update)
        if self._wandb is not None:
            self._wandb.write(update, metrics)

    def sync(self) -> str:
        """Brings what was logged onto the disk, so that no checkpoint outlives the metrics before it; returns the hash
        of the lines of updates."""
        with explain_disk_errors(self.path):
            self._file.flush()
            flush(self._file.fileno(), self.path)
        return sha256(b"".join(update_lines(self.path.read_bytes()))).hexdigest()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        # what ended the run must be told, not that a full disk did not take its last line either
        with nullcontext() if kind is None else suppress(OSError):
            self.close()

    def close(self) -> None:
        with ExitStack() as all_of_them:
            if self._wandb is not None:
                all_of_them.callback(self._wandb.close)
            all_of_them.callback(self.writer.close)
            all_of_them.callback(self._file.close)


def _when(line: dict) -> float:
    """The update that a line is of; infinity if it says none."""
    found = line.get("update", line.get("preview"))
    return found if isinstance(found, int) else math.inf
