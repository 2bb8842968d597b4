"""Pictures, clips, bars and grids of a quality report."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from benchmarks.evaluation.results import Results, prompt_means
from benchmarks.evaluation.store import read_sample
from seppo_core.judging.columns import Column
from seppo_core.report.chart import ticks
from seppo_core.report.grid import GridCell, Heading, grid
from seppo_core.report.html import Html, element, join
from seppo_core.report.media import sample
from seppo_core.report.statistics import Interval
from seppo_core.report.table import swatch

TINY = 64
"""Pixels; up to here every pixel is shown as it is."""
SHARPNESS = 1.5
"""Pixels stored per pixel shown, for screens with more than one dot per pixel."""
LONGEST = 65_500
"""Pixels that a JPEG has at most a side."""
QUALITY = 88
FPS = 8


def shown(frames: UInt8[Tensor, "f 3 h w"], alt: str, width: int) -> Html:
    """A picture (one frame) or a clip that plays in a loop, `width` pixels wide on the page."""
    pixels = rearrange(frames, "f c h w -> f h w c").numpy()
    if max(pixels.shape[1:3]) <= TINY:
        return sample(pixels[0] if len(pixels) == 1 else pixels, alt, width)
    # a clip's frames lie side by side
    small = scaled(pixels, max(1, min(pixels.shape[2], round(width * SHARPNESS), LONGEST // len(pixels))))
    height = round(width * small.shape[1] / small.shape[2])
    if len(small) == 1:
        return element("img", src=jpeg_uri(small[0]), alt=alt, width=width, height=height, loading="lazy")
    strip = jpeg_uri(np.concatenate(list(small), axis=1))
    count = len(small)
    style = (
        f"width:{width}px;height:{height}px;--frames:{count};--run:-{width * count}px;--time:{count / FPS:g}s;"
        f"background-image:url({strip});background-size:{width * count}px {height}px"
    )
    return element("div", class_="clip", role="img", aria_label=alt, style=style)


def scaled(pixels: UInt8[np.ndarray, "f h w 3"], width: int) -> UInt8[np.ndarray, "f h2 width 3"]:
    """Frames scaled to a width, proportions kept."""
    height = max(1, round(width * pixels.shape[1] / pixels.shape[2]))
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in pixels])


def jpeg_uri(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Pixels as a data: URI of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


WIDTH, LEFT, RIGHT, TOP, BOTTOM = 520, 150, 16, 6, 26
BAR, GAP = 12, 10


@dataclass(frozen=True)
class Bar:
    """One model's value in one category."""

    model: str
    series: int
    interval: Interval


@dataclass(frozen=True)
class Group:
    """A category's value, how many prompts it has, and its bars."""

    name: str
    prompts: int
    bars: Sequence[Bar]


def bar_chart(title: str, groups: Sequence[Group], x_label: str, note: str = "") -> Html:
    """A titled chart with a legend; a chart without any bar says so."""
    groups = [group for group in groups if group.bars]
    if not groups:
        return element("figure", element("figcaption", title), element("p", "no data", class_="quiet"), class_="chart")
    ends = [end for group in groups for bar in group.bars for end in (bar.interval.low, bar.interval.high)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.05 * (high - low) or 0.5
    low, high = low - room, high + room

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    drawn, y = [], TOP
    for group in groups:
        extent = BAR * len(group.bars)
        label = element("text", _short(group.name), x=LEFT - 8, y=y + extent / 2 + 4, text_anchor="end", class_="tick")
        # a hint with the whole name, and what the interval rests on
        drawn.append(element("g", element("title", f"{group.name}, {group.prompts} prompts"), label))
        for bar in group.bars:
            drawn += _bar(bar, group, x, y)
            y += BAR
        y += GAP
    bottom = y - GAP + 4
    axis = [element("line", x1=x(0), x2=x(0), y1=TOP - 4, y2=bottom, class_="axis")]
    for value in ticks(low, high):
        axis.append(element("line", x1=x(value), x2=x(value), y1=TOP - 4, y2=bottom, class_="gridline"))
        axis.append(element("text", f"{value:g}", x=x(value), y=bottom + 13, text_anchor="middle", class_="tick"))
    height = bottom + BOTTOM
    middle = (LEFT + WIDTH - RIGHT) / 2
    axis.append(element("text", x_label, x=middle, y=height - 1, text_anchor="middle", class_="tick"))
    svg = element("svg", *axis, *drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title)
    caption = element("figcaption", element("strong", title), element("span", note, class_="quiet") if note else None)
    names = dict.fromkeys((bar.model, bar.series) for group in groups for bar in group.bars)
    legend = element("div", *(element("span", swatch(s), name, class_="key") for name, s in names), class_="legend")
    return element("figure", caption, svg, join(legend), class_="chart")


def _bar(bar: Bar, group: Group, x, y: float) -> list[Html]:
    value, low, high = bar.interval
    start, end = sorted((x(0), x(value)))
    hint = f"{bar.model}, {group.name}: {value:.4g}, 95 % interval {low:.4g} to {high:.4g}, {group.prompts} prompts"
    shape = element("rect", x=start, y=y + 1, width=round(end - start, 1), height=BAR - 2, class_=f"dot s{bar.series}")
    middle = y + BAR / 2
    whisker = element("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="axis")
    return [element("g", element("title", hint), shape, whisker)]


def _short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


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
    headings = [Heading("prompt"), Heading("shown for")]
    headings += [Heading(f"gain of {name}", names.index(name) % 8, number=True) for name in others]
    headings += [Heading(name, number % 8) for number, name in enumerate(names)]
    body = [_row(results, column, item, gains, pixels) for item in rows]
    caption = (
        f"Each prompt's first sample under every model, {column.title} below it; gains are over {baseline}, all seeds "
        "averaged, more is better. A click on a heading sorts: by a gain, wins come first and losses last."
    )
    return grid(headings, body, caption, results.plan.protocol.frames)


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


def _row(
    results: Results, column: Column, item: GalleryRow, gains: dict[str, np.ndarray], pixels: int
) -> tuple[str, list[GridCell]]:
    prompt = results.plan.prompts.prompts[item.row].text
    cells = [GridCell(item.why, item.why, kind="quiet")]
    for values in gains.values():
        gain = float(values[item.row]) * column.scale
        text, key = ("–", -1e9) if np.isnan(gain) else (f"{gain:+.{column.digits}f}", gain)
        cells.append(GridCell(key, text, kind="number"))
    for model in results.models:
        table = results.table(model.entry.name, column.name)
        cells.append(_cell(model.files[item.row], table[item.row], column, f"{model.entry.name}: {prompt}", pixels))
    return prompt, cells


def _cell(files: Sequence[str | None], scores: np.ndarray, column: Column, alt: str, pixels: int) -> GridCell:
    first = next((i for i, file in enumerate(files) if file is not None), None)
    if first is None:
        return GridCell(-1e9, "failed", kind="quiet")
    score = float(scores[first]) * column.scale
    text = "no score" if np.isnan(score) else f"{score:.{column.digits}f}"
    picture = shown(read_sample(Path(str(files[first]))), alt, pixels)
    return GridCell(-1e9 if np.isnan(score) else score, samples=[(picture, text)])
