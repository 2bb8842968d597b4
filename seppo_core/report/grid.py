"""The same prompts from the same noise, side by side across arms; a click on an arm's heading sorts by its score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seppo_core.report.html import TEMPLATES, Html, render
from seppo_core.report.media import sample
from seppo_core.report.table import swatch


@dataclass(frozen=True)
class GridRow:
    """A prompt and, per arm, its samples (seeds, [f], h, w, 3) uint8 with their scores (seeds,)."""

    prompt: str
    samples: Sequence[NDArray[np.uint8]]
    scores: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Heading:
    """A heading that sorts; `series` is the colour of its swatch."""

    text: str
    series: int | None = None
    number: bool = False


@dataclass(frozen=True)
class GridCell:
    """A text, or samples with a caption each, and the value that the cell is sorted by."""

    key: float | str
    text: str = ""
    samples: Sequence[tuple[Html, str]] = ()
    kind: str = ""


def sample_grid(arms: Sequence[tuple[str, int]], rows: Sequence[GridRow], caption: str, width: int = 80) -> Html:
    """A table of prompts by arms (name, colour). Clips get a bar to pause them, slow them and step through."""
    headings = [Heading("prompt"), *(Heading(name, series) for name, series in arms)]
    found = [(row.prompt, _cells(row, arms, width)) for row in rows]
    first = rows[0].samples[0]
    return grid(headings, found, caption, first.shape[1] if first.ndim == 5 else 1)


def grid(
    headings: Sequence[Heading], rows: Sequence[tuple[str, Sequence[GridCell]]], caption: str, frames: int
) -> Html:
    """The table; `rows` are prompts and the cells beside them. Without script clips just play, without a bar."""
    shown = [{"prompt": prompt, "cells": cells} for prompt, cells in rows]
    return render(TEMPLATES / "grid.html", headings=headings, rows=shown, caption=caption, frames=frames, swatch=swatch)


def _cells(row: GridRow, arms: Sequence[tuple[str, int]], width: int) -> list[GridCell]:
    cells = []
    for (name, _), samples, scores in zip(arms, row.samples, row.scores, strict=True):
        alt = f"{name}: {row.prompt}"
        shown = [(sample(one, alt, width), f"{score:.2f}") for one, score in zip(samples, scores, strict=True)]
        cells.append(GridCell(sum(scores) / len(scores), samples=shown))
    return cells
