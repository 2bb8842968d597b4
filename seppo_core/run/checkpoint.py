"""Checkpoints: everything that a stopped run needs to continue exactly, written atomically."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seppo_core.io.atomic import remove_leftovers, whole_folder

FORMAT = 1
POLICY_FILE = "policy.safetensors"
EMA_FILE = "ema.safetensors"
OPTIMIZER_FILE = "optimizer.pt"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `update` updates are done, `skipped` of them without a step (non-finite gradients)."""

    update: int = 0
    skipped: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class Checkpoint:
    """The trained weights and what the optimiser remembers. The rest is a function of the seed, or lies in the run's
    folder: the pool's snapshots and the current iteration's samples."""

    progress: Progress
    policy: dict[str, Tensor]
    optimizer: dict
    scheduler: dict
    scaler: dict
    ema: dict[str, Tensor] = field(default_factory=dict)
    """The running average of the policy; empty if the run keeps none."""


class CheckpointFolder:
    """Checkpoints `update-000030`, `update-000060`, … of one run; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes one whole or not at all, then drops those past `keep`; one that is there already stays."""
        path = self.folder / f"update-{checkpoint.progress.update:06d}"
        if not path.exists():
            with whole_folder(path) as temporary:
                save_file(checkpoint.policy, temporary / POLICY_FILE)
                if checkpoint.ema:
                    save_file(checkpoint.ema, temporary / EMA_FILE)
                state = {
                    "optimizer": checkpoint.optimizer,
                    "scheduler": checkpoint.scheduler,
                    "scaler": checkpoint.scaler,
                }
                torch.save(state, temporary / OPTIMIZER_FILE)
                (temporary / "progress.json").write_text(json.dumps(asdict(checkpoint.progress)), encoding="utf-8")
        for old in self.list()[: -self.keep]:
            # under a temporary name first: a half-deleted checkpoint must not be taken for a whole one
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old.tmp")))
        return path

    def list(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self.folder.glob("update-*")) if self.folder.exists() else []

    def latest(self) -> Path | None:
        return self.list()[-1] if self.list() else None

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        if self.folder.exists():
            remove_leftovers(self.folder)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint without unpickling code; ValueError for a format that this version does not know, and for
    files that are damaged."""
    progress = load_progress(path)
    with _explain_damage(path):
        state = torch.load(path / OPTIMIZER_FILE, map_location="cpu", weights_only=True, mmap=True)
        ema = load_file(path / EMA_FILE) if (path / EMA_FILE).exists() else {}
        policy = load_file(path / POLICY_FILE)
        return Checkpoint(progress, policy, state["optimizer"], state["scheduler"], state["scaler"], ema)


def load_policy(path: Path) -> dict[str, Tensor]:
    """The trained weights of a checkpoint alone, by portable name."""
    with _explain_damage(path):
        return load_file(path / POLICY_FILE)


def load_weights(path: Path, weights: Literal["policy", "ema"] | None = None) -> dict[str, Tensor]:
    """The weights to evaluate or export: the running average if there is one, or what is asked for.

    Raises FileNotFoundError if the average is asked for but the run keeps none.
    """
    average = path / EMA_FILE
    if weights == "policy" or (weights is None and not average.exists()):
        return load_policy(path)
    if not average.exists():
        raise FileNotFoundError(f"{path} has no {EMA_FILE}; the run was made without optimizer.ema_decay, use policy")
    return load_file(average)


def load_progress(path: Path) -> Progress:
    """Where the run stood at a checkpoint."""
    with _explain_damage(path):
        found = json.loads((path / "progress.json").read_text(encoding="utf-8"))
        # before anything else of it is read: another format may have other fields
        number = found["format"]
    if number != FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {number}; this version reads {FORMAT}, use the one that wrote it"
        )
    with _explain_damage(path):
        return Progress(**found)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turns errors of damaged or missing files into a ValueError of one line; disk errors pass unchanged."""
    try:
        yield
    except (SafetensorError, RuntimeError, EOFError, UnpicklingError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(_damaged(path, error)) from error
    except ValueError as error:
        # JSON and UTF-8
        raise ValueError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [""])[0].partition(". ")[0][:120]
    return (
        f"checkpoint {path} is damaged ({type(error).__name__}: {reason}); move it away, and the same command goes on "
        "from the one before it"
    )
