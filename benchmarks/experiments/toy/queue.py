"""The jobs that can be started now, worked out anew from the files on disk, which makes the table resumable."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS, PROGRAMS, Arm
from benchmarks.experiments.toy.folder import Paths, is_done, read_result
from benchmarks.experiments.toy.plan import LADDER, TUNING_SEED, Cell, Plan, config_path
from benchmarks.experiments.toy.task.captions import Modality
from seppo_core.io.atomic import save_json

FORMS = {"pairs": "pairs", "labels": "labels"}
"""`data.supervision` of the kinds of data that are not winners."""


@dataclass(frozen=True)
class Job:
    """One process. `command` follows `python`; `cell` is what it fills, None for data and caches."""

    name: str
    label: str
    command: tuple[str, ...]
    weight: float
    """Expected seconds of one core."""
    cell: Cell | None = None


def failure(paths: Paths, cell: Cell) -> str | None:
    """Why a cell failed, if it did; it is not tried again until that is forgotten."""
    path = paths.cell(cell) / "failed.json"
    if is_done(paths, cell):
        return None
    return json.loads(path.read_text(encoding="utf-8"))["reason"] if path.is_file() else None


def note_failure(paths: Paths, cell: Cell, reason: str) -> None:
    save_json(paths.cell(cell) / "failed.json", {"label": cell.label, "reason": reason})


def forget_failures(paths: Paths) -> None:
    """So that failed cells are tried again."""
    for path in (paths.out / "cells").glob("*/*/failed.json"):
        path.unlink()


def is_settled(paths: Paths, cell: Cell) -> bool:
    """Whether nothing is to be done for it: it is there, or it failed."""
    return is_done(paths, cell) or failure(paths, cell) is not None


def tuning_cells(plan: Plan, paths: Paths, regime: str, arm: str) -> list[Cell]:
    """The cells that an arm's learning rate is chosen from, by rising rate: one rule for all arms.

    Those of the grid first; once all are settled and the best is the lowest or the highest, the next one beyond, as
    often as the plan's scale allows.
    """
    cells = plan.tuning(regime, arm)
    for _ in range(plan.scale.extend):
        best = _best(paths, cells)
        further = None if best is None else beyond([cell.rate for cell in cells], best)
        if further is None:
            break
        cells.append(plan.cell(regime, arm, further, TUNING_SEED, "tune"))
    return sorted(cells, key=lambda cell: cell.rate)


def beyond(rates: Collection[float], best: float) -> float | None:
    """The next rate on the ladder beyond the edge that `best` lies at; None inside, and for a grid of one rate."""
    low, high = min(rates), max(rates)
    if low == high or low < best < high:
        return None
    if best == low:
        return max((rate for rate in LADDER if rate < low), default=None)
    return min((rate for rate in LADDER if rate > high), default=None)


def best_rate(plan: Plan, paths: Paths, regime: str, arm: str) -> float | None:
    """The learning rate with the best mean on the validation prompts, the lower of two that tie.

    None while a cell is missing, or if none of them came through.
    """
    return _best(paths, tuning_cells(plan, paths, regime, arm))


def _best(paths: Paths, cells: Collection[Cell]) -> float | None:
    if not all(is_settled(paths, cell) for cell in cells):
        return None
    found = [result for cell in cells if (result := read_result(paths, cell)) is not None]
    best = max(found, key=lambda result: (result.mean, -result.cell.rate), default=None)
    return None if best is None else best.cell.rate


def cells_to_do(plan: Plan, paths: Paths) -> Iterator[tuple[Cell, bool]]:
    """Cells that are not settled, in the order of their worth, and whether each can begin.

    First the bases, then all arms' learning rates, then the training seeds one after the other, all arms each: a table
    that is broken off has as many seeds for every arm. One that cannot begin stands for a rate not yet known.
    """
    yield from ((base, True) for base in plan.bases() if not is_settled(paths, base))
    for regime in plan.regimes:
        for arm in plan.chosen(regime):
            yield from ((cell, True) for cell in tuning_cells(plan, paths, regime, arm) if not is_settled(paths, cell))
        rates = {arm: best_rate(plan, paths, regime, arm) for arm in plan.chosen(regime)}
        for seed in plan.seeds_of(regime):
            for arm, rate in rates.items():
                if rate is not None:
                    cell = plan.cell(regime, arm, rate, seed, "final")
                    if not is_settled(paths, cell):
                        yield cell, True
                elif not all(is_settled(paths, cell) for cell in tuning_cells(plan, paths, regime, arm)):
                    yield plan.cell(regime, arm, plan.scale.rates[0], seed, "final"), False


def next_job(plan: Plan, paths: Paths, busy: Collection[str]) -> Job | None:
    """The next job to begin beside those in `busy`; None if there is none now."""
    modality = plan.modality
    if not (paths.data(modality) / "data.json").is_file():
        job = Job(
            "data", "writing the data",
            ("-m", "benchmarks.experiments.toy.data", str(paths.data(modality)), modality, str(plan.scale.size),
             str(plan.data_seed)), 8,
        )  # fmt: skip
        return None if job.name in busy else job
    for cell, can_begin in cells_to_do(plan, paths):
        if not can_begin or cell.name in busy:
            continue
        job = _before(paths, cell)
        if job is None:
            command = ("-m", "benchmarks.experiments.toy.cell", str(paths.out), str(paths.cell(cell)))
            return Job(cell.name, cell.label, command, cell.weight, cell)
        if job.name not in busy:
            return job
    return None


def left(plan: Plan, paths: Paths) -> tuple[int, float]:
    """Cells to do, and the seconds of one core that they are expected to take."""
    cells = [cell for cell, _ in cells_to_do(plan, paths)]
    return len(cells), sum(cell.weight for cell in cells)


def _before(paths: Paths, cell: Cell) -> Job | None:
    """The job that a cell still waits for: its data's latents, or the base that it starts from."""

    def is_missing(kind: str) -> bool:
        return not (paths.cache(cell.modality, kind) / "manifest.json").is_file()

    if cell.config is not None and is_missing(cell.data):
        return _prepare(paths, cell.modality, cell.data, ARMS[cell.arm])
    if cell.base == "strong" and not (paths.strong(cell.modality) / "model_index.json").is_file():
        if is_missing("winners"):
            return _prepare(paths, cell.modality, "winners", ARMS["sft"])
        command = ("-m", "benchmarks.experiments.toy.cell", "strong", str(paths.out), cell.modality)
        return Job(f"strong-{cell.modality}", "training the strong base", command, 28)
    return None


def _prepare(paths: Paths, modality: Modality, kind: str, arm: Arm) -> Job:
    config: Path = config_path(modality, arm)
    command = (
        "-m", PROGRAMS[modality], "prepare", str(config),
        "--data.source", str(paths.source(modality, kind)), "--data.cache", str(paths.cache(modality, kind)),
        "--data.supervision", FORMS.get(kind, "winners"),
    )  # fmt: skip
    return Job(f"prepare-{modality}-{kind}", f"encoding the {kind}", command, 6)
