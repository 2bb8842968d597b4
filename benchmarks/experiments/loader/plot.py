"""Memory against items done, drawn with Pillow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from seppo_core.io.atomic import whole_file

PANEL = (560, 380)
LEFT, RIGHT, TOP, BOTTOM = 76, 40, 64, 56
COLOURS = {"resident": "#444444", "own": "#c0392b", "mapped": "#2e86c1"}
NAMES = {"resident": "resident in all", "own": "the process's own", "mapped": "mapped shards"}


@dataclass(frozen=True)
class Panel:
    """One phase: its title and the lines of its memory log."""

    title: str
    log: Sequence[dict[str, float]]


def draw_memory(panels: Sequence[Panel], path: Path) -> None:
    """Writes a PNG with the panels side by side, on one scale of memory."""
    width, height = PANEL
    image = Image.new("RGB", (width * len(panels), height), "white")
    draw = ImageDraw.Draw(image)
    high = _round_up(max(line["resident"] for panel in panels for line in panel.log))
    for number, panel in enumerate(panels):
        _draw_panel(draw, panel, number * width, high)
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG")


def _draw_panel(draw: ImageDraw.ImageDraw, panel: Panel, offset: int, high: float) -> None:
    width, height = PANEL
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    most = max(1, max(line["done"] for line in panel.log))
    x = lambda done: offset + LEFT + done / most * (width - LEFT - RIGHT)  # noqa: E731
    y = lambda mb: height - BOTTOM - mb / high * (height - TOP - BOTTOM)  # noqa: E731
    draw.text((offset + LEFT, 10), panel.title, "black", font)
    for step in range(5):
        mb, done = high * step / 4, most * step / 4
        draw.line([(x(0), y(mb)), (x(most), y(mb))], "#dddddd")
        draw.text((x(0) - 8, y(mb)), f"{mb:,.0f}", "#333333", small, anchor="rm")
        draw.text((x(done), y(0) + 8), f"{done:,.0f}", "#333333", small, anchor="mt")
    draw.text((x(most / 2), height - 20), "items done", "#333333", small, anchor="mm")
    draw.text((offset + 8, TOP - 22), "MB", "#333333", small)
    for number, (name, colour) in enumerate(COLOURS.items()):
        points = [(x(line["done"]), y(line[name])) for line in panel.log]
        draw.line(points, colour, width=2, joint="curve")
        left = offset + LEFT + 150 * number
        draw.line([(left, 44), (left + 18, 44)], colour, width=3)
        draw.text((left + 24, 44), NAMES[name], "#333333", small, anchor="lm")


def _round_up(value: float) -> float:
    for limit in (100, 200, 400, 600, 800, 1000, 1200, 1600, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 32000):
        if value <= limit:
            return limit
    return value
