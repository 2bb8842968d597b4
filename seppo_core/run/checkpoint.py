"""Checkpoints: everything that a stopped run needs to continue exactly, written atomically."""

import json
import shutil
from collections.abc import Callable, Iterator
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
from seppo_core.io.ledger import Ledger
from seppo_core.io.remembered import remembered_sha256
from seppo_core.methods.reference_pool import read_snapshot
from seppo_core.models.finite import first_not_finite, named_tensors
from seppo_core.run.checkpoint_names import POLICY_FILE, checkpoint_name, checkpoints_in, superfluous

FORMAT = 1
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
    """Checkpoints `update-000030`, `update-000060`, … of one run; the newest `keep` stay, those at multiples of
    `every` updates, and the one that `best` names. Anything else in the folder is left alone."""

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        every: int | None = None,
        best: Callable[[], Path | None] = lambda: None,
    ):
        self.folder = folder
        self.keep = keep
        self.every = every
        self.best = best

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes one whole or not at all, then drops what is superfluous; one that is there already stays.

        FloatingPointError, and nothing is written, if a tensor holds a value that is not finite; FileExistsError if
        something that is no checkpoint has its name.
        """
        path = self.folder / checkpoint_name(checkpoint.progress.update)
        if path not in self.list():
            _check_finite(checkpoint)
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
                Ledger(temporary).record(*sorted(temporary.iterdir()))
        for old in superfluous(self.list(), self.keep, self.every, self.best()):
            # under a temporary name first: a half-deleted checkpoint must not be taken for a whole one
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old.tmp")))
        return path

    def newest(self) -> list[Path]:
        """Those that stay whatever their number is: the run can go on from each of them."""
        return self.list()[-self.keep :]

    def list(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return checkpoints_in(self.folder)

    def latest(self) -> Path | None:
        return self.list()[-1] if self.list() else None

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        if self.folder.exists():
            remove_leftovers(self.folder)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint without unpickling code; ValueError for a format that this version does not know, and for
    files that are damaged, missing, or hold values that are not finite."""
    progress = load_progress(path)
    _check_content(path)
    with _explain_damage(path):
        state = torch.load(path / OPTIMIZER_FILE, map_location="cpu", weights_only=True, mmap=True)
        ema = load_file(path / EMA_FILE) if (path / EMA_FILE).exists() else {}
        policy = load_file(path / POLICY_FILE)
        checkpoint = Checkpoint(progress, policy, state["optimizer"], state["scheduler"], state["scaler"], ema)
    for file, tensors in ((POLICY_FILE, policy), (EMA_FILE, ema), (OPTIMIZER_FILE, state["optimizer"])):
        _refuse_not_finite(path, file, dict(named_tensors(tensors)))
    return checkpoint


def load_policy(path: Path) -> dict[str, Tensor]:
    """The trained weights of a checkpoint alone, by portable name."""
    return _load_weights(path, POLICY_FILE)


def load_weights(
    path: Path, weights: Literal["policy", "ema"] | None = None, averaged: bool = False
) -> dict[str, Tensor]:
    """The weights to evaluate or export: the running average if there is one, or what is asked for.

    `path` is a checkpoint, or a snapshot of the reference pool, which is the policy. Raises FileNotFoundError if there
    is no average but it is asked for, or the run keeps one (`averaged`) and the
    policy is not asked for; ValueError if the file is damaged.
    """
    if path.is_file():
        return _load_snapshot(path, weights)
    average = path / EMA_FILE
    with _explain_damage(path):
        lost = Ledger(path).problem(average) is not None and not average.exists()
    if weights == "policy" or (weights is None and not average.exists() and not (averaged or lost)):
        return load_policy(path)
    if not average.exists():
        why = "it is lost, or the run kept none yet" if averaged or lost else "the run keeps none (optimizer.ema_decay)"
        raise FileNotFoundError(f"{path} has no {EMA_FILE}: {why}; take the policy as trained with --weights policy")
    return _load_weights(path, EMA_FILE)


def weights_hash(path: Path, weights: Literal["policy", "ema"] | None = None) -> str:
    """SHA-256 of the file that `load_weights` reads."""
    average = path / EMA_FILE
    file = path if path.is_file() else average if weights != "policy" and average.exists() else path / POLICY_FILE
    with _explain_damage(path):
        return remembered_sha256(file)


def _load_snapshot(path: Path, weights: str | None) -> dict[str, Tensor]:
    if weights == "ema":
        raise FileNotFoundError(f"{path} is a snapshot of the policy, which has no running average; use policy")
    # the run's record, if the snapshot lies in a run
    tensors, problem = read_snapshot(path.absolute(), Ledger(path.absolute().parents[1]))
    if problem is not None:
        raise ValueError(f"snapshot {path} {problem}; name another checkpoint")
    return tensors


def _load_weights(path: Path, file: str) -> dict[str, Tensor]:
    _check_content(path, file)
    with _explain_damage(path):
        tensors = load_file(path / file)
    _refuse_not_finite(path, file, tensors)
    return tensors


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


def _check_finite(checkpoint: Checkpoint) -> None:
    parts = {"policy": checkpoint.policy, "average": checkpoint.ema, "optimizer": checkpoint.optimizer}
    for part, tensors in parts.items():
        if (name := first_not_finite(dict(named_tensors(tensors)))) is not None:
            raise FloatingPointError(
                f"after update {checkpoint.progress.update} {name!r} of the {part} is not finite: the run has diverged "
                "and nothing is saved; the last checkpoint is as it was. Go on from it with a lower optimizer.lr, or "
                "with loop.mixed_precision bf16 in place of fp16"
            )


def _refuse_not_finite(path: Path, file: str, tensors: dict[str, Tensor]) -> None:
    if (name := first_not_finite(tensors)) is not None:
        raise ValueError(_damaged(path, f"{name!r} in {file} is not finite"))


def _check_content(path: Path, file: str | None = None) -> None:
    """ValueError if a file (of all that were written, if none is named) is not as it was when it was written."""
    with _explain_damage(path):
        ledger = Ledger(path)
        found = ledger.problems() if file is None else {file: ledger.problem(path / file)}
        for name, problem in found.items():
            if problem is not None:
                raise ValueError(f"{name} {problem}")


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turns errors of damaged or missing files into a ValueError of one line; disk errors pass unchanged."""
    try:
        yield
    except (SafetensorError, RuntimeError, EOFError, UnpicklingError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(_damaged(path, f"{type(error).__name__}: {_first_line(error)}")) from error
    except ValueError as error:
        # JSON, UTF-8, and what a hash shows
        raise ValueError(_damaged(path, _first_line(error))) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].partition(". ")[0][:120]


def _damaged(path: Path, reason: str) -> str:
    has_earlier = path in checkpoints_in(path.parent)[1:]
    then = "goes on from the one before it" if has_earlier else "begins anew, since there is none before it"
    return f"checkpoint {path} is damaged ({reason}); move it away, and the same command {then}"
