"""Where things lie under the table's folder, and what a finished cell has left there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.experiments.toy.arms import SCHEMAS
from benchmarks.experiments.toy.data import SOURCES
from benchmarks.experiments.toy.plan import Cell
from benchmarks.experiments.toy.task.captions import Modality
from seppo_core.config.loader import load_config
from seppo_core.config.monitoring import HealthConfig
from seppo_core.io.atomic import save_json
from seppo_core.run.health import Health
from seppo_core.run.history import read_metrics

FORMAT = 1


@dataclass(frozen=True)
class Paths:
    """Paths under `out`."""

    out: Path

    def data(self, modality: Modality) -> Path:
        return self.out / "data" / modality

    def source(self, modality: Modality, kind: str) -> Path:
        """The folder or table that `prepare` reads."""
        return self.data(modality) / SOURCES[kind]

    def cache(self, modality: Modality, kind: str) -> Path:
        return self.out / "cache" / modality / kind

    def strong(self, modality: Modality) -> Path:
        """The strong base, a pipeline's folder."""
        return self.out / "bases" / modality / "strong"

    def cell(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.modality / cell.name

    def log(self, name: str) -> Path:
        return self.out / "logs" / f"{name}.log"


@dataclass(frozen=True)
class CellResult:
    """The results of a finished cell. `scores` (prompts, noises) are exact scores."""

    cell: Cell
    scores: np.ndarray
    prompts: list[str]
    seconds: float | None
    """Seconds of one core that `train` took; None if it was interrupted and continued."""
    curve: list[tuple[int, float]]
    """(updates, mean score of the first noise) at the checkpoints."""
    shares: dict[str, float]
    """Shares of s over the whole run, by sign; empty without an anchor."""
    plus: np.ndarray | None
    """(items, draws): where s = +1, after training."""
    margin: np.ndarray | None
    """(items,): score of the policy's sample minus the reference's."""
    captions: list[str]

    @property
    def mean(self) -> float:
        return float(self.scores.mean())


def write_spec(folder: Path, cell: Cell) -> None:
    """Leaves word of what is to be done in a cell's folder."""
    save_json(folder / "spec.json", asdict(cell))


def read_spec(folder: Path) -> Cell:
    content = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    content["options"] = tuple(content["options"])
    content["anchor"] = None if content["anchor"] is None else tuple(content["anchor"])
    return Cell(**content)


def is_done(paths: Paths, cell: Cell) -> bool:
    """cell.json is written last."""
    return (paths.cell(cell) / "cell.json").is_file()


def read_result(paths: Paths, cell: Cell) -> CellResult | None:
    """The results of a cell, or None while it is not done."""
    folder = paths.cell(cell)
    if not is_done(paths, cell):
        return None
    found = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    anchor = load_file(folder / "anchor.safetensors") if (folder / "anchor.safetensors").is_file() else None
    return CellResult(
        cell=cell,
        scores=load_file(folder / "scores.safetensors")["scores"].astype(float),
        prompts=found["prompts"],
        seconds=found["seconds"],
        curve=[(update, score) for update, score in found["curve"]],
        shares=found["shares"],
        plus=None if anchor is None else anchor["plus"].astype(bool),
        margin=None if anchor is None else anchor["margin"].astype(float),
        captions=found["captions"],
    )


def alarms(paths: Paths, cell: Cell) -> set[str]:
    """The health gates that would have spoken in a finished run at their defaults; it was trained with them off.

    Read from its metrics, so that a change of a gate is seen on runs that it was not made for.
    """
    run = paths.cell(cell) / "run"
    if cell.config is None or not (run / "metrics.jsonl").is_file():
        return set()
    config = load_config(run / "config.yaml", SCHEMAS[cell.modality])
    health = Health.of(HealthConfig(), config.method, config.loop.batch_size, read_metrics(run))
    return {alarm.gate for alarm in health.alarms}


def read_samples(paths: Paths, cell: Cell) -> np.ndarray:
    """Samples (prompts, noises, [f], h, w, 3) uint8 of a finished cell."""
    return load_file(paths.cell(cell) / "scores.safetensors")["samples"]
