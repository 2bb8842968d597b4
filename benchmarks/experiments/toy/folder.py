"""Where things lie under the table's folder, and what a finished cell has left there."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.experiments.toy.arms import SCHEMAS
from benchmarks.experiments.toy.data import SOURCES
from benchmarks.experiments.toy.plan import Cell
from benchmarks.experiments.toy.regimes import BaseName
from seppo_core.config.loader import load_config
from seppo_core.config.monitoring import HealthConfig
from seppo_core.io.atomic import save_json
from seppo_core.run.health import Health
from seppo_core.run.history import read_metrics
from seppo_core.toy.captions import Modality

FORMAT = 2


@dataclass(frozen=True)
class Paths:
    """Paths under `out`; finished cells' results also go to `store`, if there is one."""

    out: Path
    store: Path | None = None

    def data(self, modality: Modality) -> Path:
        return self.out / "data" / modality

    def source(self, modality: Modality, kind: str) -> Path:
        """The folder or table that `prepare` reads."""
        return self.data(modality) / SOURCES[kind]

    def cache(self, modality: Modality, kind: str) -> Path:
        return self.out / "cache" / modality / kind

    def base(self, modality: Modality, name: BaseName) -> Path:
        """A base that is trained before the cells that start from it, a pipeline's folder."""
        return self.out / "bases" / modality / name

    def cell(self, cell: Cell) -> Path:
        return self.out / "cells" / cell.modality / cell.name

    def results(self, cell: Cell) -> list[Path]:
        """The files that a finished cell's results are in, of which any one will do."""
        here = [self.cell(cell) / "cell.json"]
        return here if self.store is None else [*here, self.store / "cells" / cell.modality / f"{cell.name}.json"]

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
    """(updates, mean score of the first noises) at the checkpoints."""
    shares: dict[str, float]
    """Shares of s over the whole run, by sign; empty without an anchor."""
    plus: np.ndarray | None
    """(items, draws): where s = +1, after training."""
    margin: np.ndarray | None
    """(items,): score of the policy's sample minus the reference's."""
    captions: list[str]
    alarms: list[str]
    """The health gates that would have spoken at their defaults; it was trained with them off."""

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


def write_result(paths: Paths, result: CellResult, origin: dict) -> None:
    """Writes the results wherever they are kept; scores to four digits, which is finer than any interval."""
    content = {
        "format": FORMAT,
        "label": result.cell.label,
        "cell": {name: value for name, value in asdict(result.cell).items() if name != "options"},
        "options": " ".join(result.cell.options),
        "origin": origin,
        "prompts": result.prompts,
        "scores": _digits(result.scores),
        "seconds": result.seconds,
        "curve": result.curve,
        "shares": result.shares,
        "captions": result.captions,
        "plus": None if result.plus is None else result.plus.astype(int).tolist(),
        "margin": None if result.margin is None else _digits(result.margin),
        "alarms": result.alarms,
    }
    # the one that says that a cell is done comes last
    for path in reversed(paths.results(result.cell)):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_json(path, content)


def _digits(values: np.ndarray) -> list:
    return np.round(values.astype(float), 4).tolist()


def is_done(paths: Paths, cell: Cell) -> bool:
    return any(path.is_file() for path in paths.results(cell))


def read_result(paths: Paths, cell: Cell) -> CellResult | None:
    """The results of a cell, or None while it is not done."""
    path = next((path for path in paths.results(cell) if path.is_file()), None)
    if path is None:
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return CellResult(
        cell=cell,
        scores=np.array(found["scores"]),
        prompts=found["prompts"],
        seconds=found["seconds"],
        curve=[(update, score) for update, score in found["curve"]],
        shares=found["shares"],
        plus=None if found["plus"] is None else np.array(found["plus"], dtype=bool),
        margin=None if found["margin"] is None else np.array(found["margin"]),
        captions=found["captions"],
        alarms=found["alarms"],
    )


def alarms(run: Path, cell: Cell) -> list[str]:
    """The health gates that would have spoken in a run at their defaults."""
    if not (run / "metrics.jsonl").is_file():
        return []
    config = load_config(run / "config.yaml", SCHEMAS[cell.modality])
    health = Health.of(HealthConfig(), config.method, config.loop.batch_size, read_metrics(run))
    return sorted({alarm.gate for alarm in health.alarms})


def read_samples(paths: Paths, cell: Cell) -> np.ndarray | None:
    """Samples (prompts, noises, [f], h, w, 3) uint8 of a finished cell, if it was run here."""
    path = paths.cell(cell) / "scores.safetensors"
    return load_file(path)["samples"] if path.is_file() else None
