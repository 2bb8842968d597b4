"""Finished cells of the toy table, written without training anything."""

import numpy as np
import torch

from benchmarks.experiments.toy.cell import prompts_of
from benchmarks.experiments.toy.folder import FORMAT, Paths, write_spec
from benchmarks.experiments.toy.plan import Cell, Plan, Scale
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
    scores = torch.tensor(score + luck + difficulty + np.zeros(shape))
    write_spec(folder, cell)
    save_tensors(
        folder / "scores.safetensors",
        {"scores": scores, "samples": torch.zeros((*shape, 16, 16, 3), dtype=torch.uint8)},
    )
    captions: list[str] = []
    if cell.anchor is not None:
        items, draws = cell.anchor
        captions = [f"caption {i % 8}" for i in range(items)]
        right = torch.arange(items) % 2 == 0
        plus = right[:, None].expand(items, draws).to(torch.uint8)
        margin = torch.where(torch.arange(items) % 4 < 2, 0.1, -0.1)
        save_tensors(folder / "anchor.safetensors", {"plus": plus, "margin": margin})
    save_json(
        folder / "cell.json",
        {
            "format": FORMAT, "label": cell.label, "prompts": prompts, "seconds": seconds,
            "curve": [[20, score - 0.01], [60, score]] if cell.config else [[0, score]],
            "shares": {"plus": 0.4, "minus": 0.6, "zero": 0.0} if cell.anchor else {}, "captions": captions,
            "updates": 60,
        },
    )  # fmt: skip


def small_plan(**options) -> Plan:
    """Two rates, three seeds, few samples."""
    scale = Scale(size=16, rates=(1e-3, 3e-3), extend=0, noises=2, tuning_noises=1)
    return Plan("image", scale, **{"seeds": 3} | options)
