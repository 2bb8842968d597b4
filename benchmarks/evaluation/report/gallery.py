"""Samples of the same prompts and noise, side by side: chosen by their gains, or spread over the prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.evaluation.report.media import shown
from benchmarks.evaluation.results import ModelSamples, Results, prompt_means
from seppo_core.judging.columns import Column
from seppo_core.report.grid import GridCell, Heading, grid
from seppo_core.report.html import Html

EXTREMES, EVEN = 8, 8
"""Prompts per model with the largest gains, as many with the largest losses, and prompts that nobody chose."""
ALONE = 32
"""Prompts that are shown if nothing judges them."""
ROOM, SPACING = 900, 24
"""Pixels for pictures in one row of the page, and what lies between two of them."""
SMALLEST, LARGEST = 96, 208
COLOURS = 8
NONE = -1e9
"""What a cell without a number is sorted by."""


@dataclass(frozen=True)
class GalleryRow:
    """A prompt, and why it is shown."""

    row: int
    why: str


def gallery(results: Results, column: Column | None, baseline: str) -> Html:
    """Each prompt's first sample under every model, with its score and its gain over the baseline below it.

    Largest wins, largest losses and evenly spaced prompts; without a column, evenly spaced ones and no numbers.
    """
    names = results.names
    pixels = max(SMALLEST, min(LARGEST, ROOM // len(names) - SPACING))
    gains: dict[str, np.ndarray] = {}
    if column is None:
        rows = chosen_rows({}, len(results.plan.prompts), ALONE)
        caption = "Each prompt's first sample under every model; nothing judged them."
    else:
        means = {name: column.better * prompt_means(results.table(name, column.name)) for name in names}
        gains = {name: means[name] - means[baseline] for name in names if name != baseline}
        rows = chosen_rows(gains, len(results.plan.prompts))
        caption = f"Each prompt's first sample under every model, {column.title} below it"
        caption += (
            f"; in brackets the gain over {baseline}, all seeds averaged, more is better. A click on a model's name "
            "sorts by its gain: wins come first and losses last."
            if gains
            else ". A click on a model's name sorts by it."
        )
    headings = [Heading("prompt"), *(Heading(name, number % COLOURS) for number, name in enumerate(names))]
    if column is not None:
        headings.append(Heading("shown for"))
    body = [_row(results, column, item, gains, pixels) for item in rows]
    return grid(headings, body, caption, results.plan.protocol.frames)


def chosen_rows(gains: dict[str, np.ndarray], prompts: int, even: int = EVEN) -> list[GalleryRow]:
    """Which prompts are shown, each once: wins and losses of every model, then evenly spaced ones."""
    found: dict[int, str] = {}
    for name, values in gains.items():
        there = np.flatnonzero(np.isfinite(values))
        order = there[np.argsort(-values[there], kind="stable")]
        for row in order[values[order] > 0][:EXTREMES]:
            found.setdefault(int(row), f"win of {name}")
        for row in order[values[order] < 0][::-1][:EXTREMES]:
            found.setdefault(int(row), f"loss of {name}")
    for row in np.linspace(0, prompts - 1, min(even, prompts)).round().astype(int):
        found.setdefault(int(row), "not selected")
    return [GalleryRow(row, why) for row, why in found.items()]


def _row(
    results: Results, column: Column | None, item: GalleryRow, gains: dict[str, np.ndarray], pixels: int
) -> tuple[str, list[GridCell]]:
    prompt = results.plan.prompts.prompts[item.row].text
    cells = []
    for model in results.models:
        name = model.entry.name
        score, gain = np.full(len(results.plan.protocol.seeds), np.nan), None
        if column is not None:
            score = results.table(name, column.name)[item.row] * column.scale
            gain = float(gains[name][item.row]) * column.scale if name in gains else None
        cells.append(_cell(model, item.row, score, gain, column, f"{name}: {prompt}", pixels))
    if column is not None:
        cells.append(GridCell(item.why, item.why, kind="quiet"))
    return prompt, cells


def _cell(
    model: ModelSamples,
    row: int,
    scores: Sequence[float],
    gain: float | None,
    column: Column | None,
    alt: str,
    pixels: int,
) -> GridCell:
    first = next((i for i, record in enumerate(model.records[row]) if record is not None), None)
    if first is None:
        return GridCell(NONE, "no sample", kind="quiet")
    try:
        frames = model.read(row, first)
    # it was sound a moment ago; one picture must not take the report with it
    except ValueError:
        return GridCell(NONE, "damaged", kind="quiet")
    if column is None:
        return GridCell(NONE, samples=[(shown(frames, alt, pixels), "")])
    score = float(scores[first])
    text = "no score" if np.isnan(score) else f"{score:.{column.digits}f}"
    if gain is not None and not np.isnan(gain):
        text += f" ({gain:+.{column.digits}f})"
    key = score if gain is None else gain
    return GridCell(NONE if np.isnan(key) else key, samples=[(shown(frames, alt, pixels), text)])
