"""Finished cells of the toy table, written without training anything."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments.toy.cell import prompts_of
from benchmarks.experiments.toy.folder import CellResult, Paths, write_result, write_spec
from benchmarks.experiments.toy.plan import Cell, Plan
from benchmarks.experiments.toy.queue import Job, next_job
from benchmarks.experiments.toy.regimes import Scale
from seppo_core.io.atomic import save_json, save_tensors


def write_cell(paths: Paths, cell: Cell, score: float, *, seconds: float | None = 10.0, spread: float = 0.05) -> None:
    """What a cell leaves: scores around `score`, and where it has an anchor, signs that are right for half the items.

    Prompts keep their difficulty and seeds their luck in every cell, so that differences are paired.
    """
    folder = paths.cell(cell)
    prompts = prompts_of(cell)
    shape = (len(prompts), cell.noises)
    difficulty = np.linspace(-spread, spread, shape[0])[:, None]
    luck = 0.01 * cell.seed
    scores = score + luck + difficulty + np.zeros(shape)
    write_spec(folder, cell)
    save_tensors(folder / "scores.safetensors", {"samples": torch.zeros((*shape, 32, 32, 3), dtype=torch.uint8)})
    plus = margin = None
    captions: list[str] = []
    if cell.anchor is not None:
        items, draws = cell.anchor
        captions = [f"caption {i % 8}" for i in range(items)]
        plus = np.repeat(np.arange(items)[:, None] % 2 == 0, draws, axis=1)
        margin = np.where(np.arange(items) % 4 < 2, 0.1, -0.1)
    result = CellResult(
        cell=cell, scores=scores, prompts=prompts, seconds=seconds,
        curve=[(20, score - 0.01), (60, score)] if cell.config else [(0, score)],
        shares={"plus": 0.4, "minus": 0.6, "zero": 0.0} if cell.anchor else {}, plus=plus, margin=margin,
        captions=captions, alarms=[],
    )  # fmt: skip
    write_result(paths, result, {"commit": "none"})


def small_plan(**options) -> Plan:
    """Two rates, three seeds, few samples, draws of the mixture."""
    scale = Scale(size=16, rates=(1e-3, 3e-3), extend=0, noises=2, tuning_noises=1)
    return Plan("image", scale, **{"seeds": 3, "regimes": ("mixture",)} | options)


def carried_out(plan: Plan, paths: Paths) -> Iterator[Job]:
    """Every job in turn; the files that it would leave are there when the next one is asked for."""
    save_json(paths.data(plan.modality) / "data.json", {"scores": {}})
    while (job := next_job(plan, paths, ())) is not None:
        yield job
        if job.cell is not None:
            write_cell(paths, job.cell, 0.6)
        elif "prepare" in job.command:
            save_json(Path(job.command[job.command.index("--data.cache") + 1]) / "manifest.json", {})
        elif job.name.startswith("own-"):
            save_json(paths.data(plan.modality) / "own.json", {})
        else:
            save_json(paths.base(plan.modality, job.name.partition("-")[0]) / "model_index.json", {})
