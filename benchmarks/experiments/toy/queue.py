"""The jobs that can be started now, worked out anew from the files on disk, which makes the table resumable."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.toy.arms import ARMS, PROGRAMS
from benchmarks.experiments.toy.folder import Paths, is_done, read_result
from benchmarks.experiments.toy.plan import TUNING_SEED, Cell, Plan, config_path
from benchmarks.experiments.toy.regimes import BETAS, LADDER, OWN_DATA, WEIGHTS, Setting
from seppo_core.io.atomic import save_json

FORMS = {"pairs": "pairs", "labels": "labels", "prompts": "prompts", "own_pairs": "pairs", "own_labels": "labels"}
"""`data.supervision` of the kinds of data that are not winners."""


BASE_COSTS = {"strong": 28, "large": 3600}
"""Expected seconds of one core that training a base takes."""


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
    """The cells that an arm's settings are chosen from: one rule for all arms.

    Learning rates of the grid first. Once all are settled and the best is the lowest or the highest, the next one
    beyond, as often as the plan's scale allows. Then beta at the best rate, one step to either side and beyond in the
    same way, if it is tuned, the rate at that beta again, and beta at that rate; then the weight of the winner term.
    """
    cells = plan.tuning(regime, arm)
    if not _extend(plan, paths, regime, arm, cells, 0, LADDER):
        return cells
    betas = ARMS[arm].betas or BETAS
    # rates once more at the beta that was found, and beta at that rate: a smaller beta asks for a larger rate
    for axis, ladder in ((1, betas), (0, LADDER), (1, betas), (2, WEIGHTS)):
        best = _best(paths, cells)
        if best is None or best.setting[axis or 1] is None:
            continue
        at = ladder.index(best.setting[axis])
        for value in ladder[max(0, at - 1) : at + 2]:
            setting = _with(best.setting, axis, value)
            if setting not in [cell.setting for cell in cells]:
                cells.append(plan.cell(regime, arm, setting, TUNING_SEED, "tune"))
        if not _extend(plan, paths, regime, arm, cells, axis, ladder):
            return cells
    return cells


def _extend(
    plan: Plan, paths: Paths, regime: str, arm: str, cells: list[Cell], axis: int, ladder: Sequence[float]
) -> bool:
    """Adds cells beyond an edge that the best lies at; whether all are settled and this axis is done with."""
    for _ in range(plan.scale.extend):
        best = _best(paths, cells)
        if best is None:
            return _all_settled(paths, cells)
        # values that were tried with all else as the best has it
        others = _with(best.setting, axis, None)
        tried = [cell.setting[axis] for cell in cells if _with(cell.setting, axis, None) == others]
        further = beyond(tried, best.setting[axis], ladder)
        if further is None:
            return True
        cells.append(plan.cell(regime, arm, _with(best.setting, axis, further), TUNING_SEED, "tune"))
    return _all_settled(paths, cells)


def _with(setting: Setting, axis: int, value: float | None) -> Setting:
    return (*setting[:axis], value, *setting[axis + 1 :])


def beyond(values: Collection[float], best: float, ladder: Sequence[float] = LADDER) -> float | None:
    """The next value on the ladder beyond the edge that `best` lies at; None inside, and for a grid of one value."""
    low, high = min(values), max(values)
    if low == high or low < best < high:
        return None
    if best == low:
        return max((value for value in ladder if value < low), default=None)
    return min((value for value in ladder if value > high), default=None)


def best_setting(plan: Plan, paths: Paths, regime: str, arm: str) -> Setting | None:
    """The settings with the best mean on the validation prompts, the lower of two that tie.

    None while a cell is missing, or if none of them came through.
    """
    best = _best(paths, tuning_cells(plan, paths, regime, arm))
    return None if best is None else best.setting


def _all_settled(paths: Paths, cells: Collection[Cell]) -> bool:
    return all(is_settled(paths, cell) for cell in cells)


def _best(paths: Paths, cells: Collection[Cell]) -> Cell | None:
    if not _all_settled(paths, cells):
        return None
    found = [result for cell in cells if (result := read_result(paths, cell)) is not None]
    best = max(found, key=lambda result: (result.mean, *(-(value or 0) for value in result.cell.setting)), default=None)
    return None if best is None else best.cell


def cells_to_do(plan: Plan, paths: Paths) -> Iterator[tuple[Cell, bool]]:
    """Cells that are not settled, in the order of their worth, and whether each can begin.

    First the bases, then all arms' learning rates, then the training seeds one after the other, all arms each: a table
    that is broken off has as many seeds for every arm. One that cannot begin stands for a rate not yet known.
    """
    yield from ((base, True) for base in plan.bases() if not is_settled(paths, base))
    for regime in plan.regimes:
        for arm in plan.chosen(regime):
            yield from ((cell, True) for cell in tuning_cells(plan, paths, regime, arm) if not is_settled(paths, cell))
        settings = {arm: best_setting(plan, paths, regime, arm) for arm in plan.chosen(regime)}
        seeds = max((plan.seeds_of(regime, arm) for arm in settings), key=len, default=())
        for seed in seeds:
            for arm, setting in settings.items():
                if seed not in plan.seeds_of(regime, arm):
                    continue
                if setting is not None:
                    cell = plan.cell(regime, arm, setting, seed, "final")
                    if not is_settled(paths, cell):
                        yield cell, True
                elif not _all_settled(paths, tuning_cells(plan, paths, regime, arm)):
                    yield plan.cell(regime, arm, (plan.scale.rates[0], *plan.start(arm)), seed, "final"), False


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
        job = before(plan, paths, cell)
        if job is None:
            store = () if paths.store is None else (str(paths.store),)
            command = ("-m", "benchmarks.experiments.toy.cell", str(paths.out), str(paths.cell(cell)), *store)
            return Job(cell.name, cell.label, command, cell.cost, cell)
        if job.name not in busy:
            return job
    return None


def left(plan: Plan, paths: Paths) -> tuple[int, float]:
    """Cells to do, and the seconds of one core that they and the bases they start from are expected to take."""
    cells = [cell for cell, _ in cells_to_do(plan, paths)]
    missing = {cell.base for cell in cells if not _has_base(paths, cell)}
    return len(cells), sum(cell.cost for cell in cells) + sum(BASE_COSTS[base] for base in missing)


def _has_base(paths: Paths, cell: Cell) -> bool:
    return cell.base == "main" or (paths.base(cell.modality, cell.base) / "model_index.json").is_file()


def before(plan: Plan, paths: Paths, cell: Cell) -> Job | None:
    """The job that a cell still waits for: its data's latents, or the base that it starts from."""

    def is_missing(kind: str) -> bool:
        return not (paths.cache(cell.modality, kind) / "manifest.json").is_file()

    base = None if cell.base == "main" else paths.base(cell.modality, cell.base)
    if not _has_base(paths, cell):
        if cell.base == "strong" and is_missing("winners"):
            return _prepare(paths, cell, "winners", None)
        command = ("-m", "benchmarks.experiments.toy.cell", cell.base, str(paths.out), cell.modality)
        return Job(f"{cell.base}-{cell.modality}", f"training the {cell.base} base", command, BASE_COSTS[cell.base])
    # the encoder of the large base has learnt with it, and its samples are its own; the strong one shares the main's
    own_base = base if cell.base == "large" else None
    looked_at = [] if cell.anchor is None else [cell.anchor_data]
    kinds = [] if cell.config is None else [cell.data, *looked_at]
    if set(kinds) & set(OWN_DATA.values()) and not (paths.data(cell.modality) / "own.json").is_file():
        command = (
            "-m", "benchmarks.experiments.toy.own_data", str(paths.data(cell.modality)), cell.modality,
            str(plan.scale.samples), str(plan.scale.rounds), *(() if own_base is None else (str(own_base),)),
        )  # fmt: skip
        return Job(f"own-{cell.modality}", "drawing and ranking the base's samples", command, 40)
    missing = next((kind for kind in kinds if is_missing(kind)), None)
    return None if missing is None else _prepare(paths, cell, missing, own_base)


def _prepare(paths: Paths, cell: Cell, kind: str, base: Path | None) -> Job:
    modality = cell.modality
    arm = ARMS["sft" if cell.arm == "base" or kind != cell.data else cell.arm]
    command = (
        "-m", PROGRAMS[modality], "prepare", str(config_path(modality, arm)),
        "--data.source", str(paths.source(modality, kind)), "--data.cache", str(paths.cache(modality, kind)),
        "--data.supervision", FORMS.get(kind, "winners"), *(() if base is None else ("--model.base", str(base))),
    )  # fmt: skip
    return Job(f"prepare-{modality}-{kind}", f"encoding the {kind}", command, 6)
