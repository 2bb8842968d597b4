"""The same prompts across models, with what each model gains: a table that a click sorts by gain."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evaluation.report.media import shown
from benchmarks.evaluation.results import Results, prompt_means
from benchmarks.evaluation.samples import read_sample
from seppo_core.judging.columns import Column
from seppo_core.report.grid import player
from seppo_core.report.html import Html, element, join
from seppo_core.report.table import swatch

EXTREMES, EVEN = 8, 8
"""Prompts per model with the largest gains, as many with the largest losses, and prompts that nobody chose."""


@dataclass(frozen=True)
class GalleryRow:
    """A prompt, why it is shown, and the gains by which it can be sorted."""

    row: int
    why: str


def gallery(results: Results, column: Column, baseline: str, pixels: int) -> Html:
    """Largest wins, largest losses and evenly spaced prompts, every model's first sample with its score."""
    names = results.names
    means = {name: column.better * prompt_means(results.table(name, column.name)) for name in names}
    others = [name for name in names if name != baseline]
    gains = {name: means[name] - means[baseline] for name in others}
    rows = chosen_rows(gains, len(results.plan.prompts))
    heads = [element("th", element("button", "prompt", type="button"), scope="col"),
             element("th", element("button", "shown for", type="button"), scope="col")]  # fmt: skip
    for name in others:
        inner = element("button", swatch(names.index(name) % 8), f"gain of {name}", type="button")
        heads.append(element("th", inner, scope="col", class_="number"))
    for number, name in enumerate(names):
        inner = element("button", swatch(number % 8), name, type="button", title=f"Sort by {name}")
        heads.append(element("th", inner, scope="col"))
    body = [_row(results, column, item, gains, pixels) for item in rows]
    caption = (
        f"Each prompt's first sample under every model, {column.title} below it; gains are over {baseline}, all seeds "
        "averaged, more is better. A click on a heading sorts: by a gain, wins come first and losses last."
    )
    inner = element(
        "table", element("caption", caption), element("thead", element("tr", *heads)), element("tbody", *body),
        class_="sortable grid",
    )  # fmt: skip
    frames = results.plan.protocol.frames
    return join(player(frames) if frames > 1 else None, element("div", inner, class_="wide"))


def chosen_rows(gains: dict[str, np.ndarray], prompts: int) -> list[GalleryRow]:
    """Which prompts are shown, each once: wins and losses of every model, then evenly spaced ones."""
    found: dict[int, str] = {}
    for name, values in gains.items():
        there = np.flatnonzero(np.isfinite(values))
        order = there[np.argsort(-values[there], kind="stable")]
        for row in order[values[order] > 0][:EXTREMES]:
            found.setdefault(int(row), f"win of {name}")
        for row in order[values[order] < 0][::-1][:EXTREMES]:
            found.setdefault(int(row), f"loss of {name}")
    for row in np.linspace(0, prompts - 1, min(EVEN, prompts)).round().astype(int):
        found.setdefault(int(row), "not selected")
    return [GalleryRow(row, why) for row, why in found.items()]


def _row(results: Results, column: Column, item: GalleryRow, gains: dict[str, np.ndarray], pixels: int) -> Html:
    prompt = results.plan.prompts.prompts[item.row]
    cells = [element("th", prompt.text, scope="row", data_sort=prompt.text),
             element("td", item.why, data_sort=item.why, class_="quiet")]  # fmt: skip
    for values in gains.values():
        gain = float(values[item.row]) * column.scale
        text, key = ("–", -1e9) if np.isnan(gain) else (f"{gain:+.{column.digits}f}", gain)
        cells.append(element("td", text, data_sort=key, class_="number"))
    for model in results.models:
        table = results.table(model.entry.name, column.name)
        cells.append(_cell(model.files[item.row], table[item.row], column, prompt.text, model.entry.name, pixels))
    return element("tr", *cells)


def _cell(files: Sequence[str | None], scores: np.ndarray, column: Column, prompt: str, name: str, pixels: int) -> Html:
    first = next((i for i, file in enumerate(files) if file is not None), None)
    if first is None:
        return element("td", "failed", data_sort=-1e9, class_="quiet")
    score = float(scores[first]) * column.scale
    text = "no score" if np.isnan(score) else f"{score:.{column.digits}f}"
    picture = shown(read_sample(Path(str(files[first]))), f"{name}: {prompt}", pixels)
    figure = element("figure", picture, element("figcaption", text))
    return element("td", element("div", figure, class_="samples"), data_sort=-1e9 if np.isnan(score) else score)
