"""The same prompts from the same noise, side by side across arms; a click on an arm's heading sorts by its score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seppo_core.report.html import Html, element, join
from seppo_core.report.media import sample
from seppo_core.report.table import swatch


@dataclass(frozen=True)
class GridRow:
    """A prompt and, per arm, its samples (seeds, [f], h, w, 3) uint8 with their scores (seeds,)."""

    prompt: str
    samples: Sequence[NDArray[np.uint8]]
    scores: Sequence[Sequence[float]]


def sample_grid(arms: Sequence[tuple[str, int]], rows: Sequence[GridRow], caption: str, width: int = 80) -> Html:
    """A table of prompts by arms (name, colour). Clips get a bar to pause them, slow them and step through."""
    names = [element("th", element("button", "prompt", type="button"), scope="col")]
    for name, series in arms:
        inner = element("button", swatch(series), name, type="button", title=f"Sort by {name}")
        names.append(element("th", inner, scope="col"))
    body = [_row(row, arms, width) for row in rows]
    inner = element(
        "table", element("caption", caption), element("thead", element("tr", *names)), element("tbody", *body),
        class_="sortable grid",
    )  # fmt: skip
    plays = any(samples.ndim == 5 for row in rows for samples in row.samples)
    return join(player(rows[0].samples[0].shape[1]) if plays else None, element("div", inner, class_="wide"))


def player(frames: int) -> Html:
    """Controls for all clips of a page; without script they are not shown and the clips just play."""
    return element(
        "div",
        element("button", "Pause", type="button", class_="play"),
        element("label", "speed ", element("input", class_="speed", type="range", min=0.1, max=2, step=0.1, value=1)),
        element(
            "label", "frame ", element("input", class_="frame", type="range", min=0, max=frames - 1, step=1, value=0),
            element("output", "1"),
        ),
        class_="player", hidden=True,
    )  # fmt: skip


def _row(row: GridRow, arms: Sequence[tuple[str, int]], width: int) -> Html:
    cells = [element("th", row.prompt, scope="row", data_sort=row.prompt)]
    for (name, _), samples, scores in zip(arms, row.samples, row.scores, strict=True):
        shown = [
            element("figure", sample(one, f"{name}: {row.prompt}", width), element("figcaption", f"{score:.2f}"))
            for one, score in zip(samples, scores, strict=True)
        ]
        mean = sum(scores) / len(scores)
        cells.append(element("td", element("div", *shown, class_="samples"), data_sort=mean))
    return element("tr", *cells)
