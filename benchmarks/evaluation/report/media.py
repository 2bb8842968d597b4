"""Pictures, clips and bars of a quality report."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from seppo_core.report.chart import ticks
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
