"""A line chart as an SVG file of its own, for pages that bring no style sheet."""

import re
from collections.abc import Sequence
from importlib.resources import files

from seppo_core.report.chart import HEIGHT, LEFT, WIDTH, Line, plot
from seppo_core.report.html import Html, element

ROW = 17
"""Pixels a line of the legend."""
STYLE = """svg { font-family: system-ui, sans-serif; background: #fff } text { fill: #222 }
.tick { font-size: 11px; fill: #666 } .label, .name { font-size: 12px } .gridline { stroke: #e3e3e3 }
.axis { stroke: #666 } .marker { stroke: #666; stroke-dasharray: 4 3 } .dot { fill: var(--c); stroke: #fff }
.curve, .swatch { fill: none; stroke: var(--c); stroke-width: 2.1 } .dashed { stroke-dasharray: 6 4 }
.band { fill: var(--c); fill-opacity: .13; stroke: var(--c); stroke-width: .8; stroke-opacity: .5 }"""


def standalone_chart(
    title: str, lines: Sequence[Line], x_label: str, y_label: str, *, level: tuple[str, float] | None = None
) -> str:
    """The same drawing as `line_chart`, with colours and legend inside; one legend line for every arm.

    ValueError if no arm has points.
    """
    return standalone_panels(title, [(x_label, lines)], y_label, level=level)


def standalone_panels(
    title: str,
    panels: Sequence[tuple[str, Sequence[Line]]],
    y_label: str,
    *,
    level: tuple[str, float] | None = None,
    band: str = "",
) -> str:
    """Drawings side by side with one axis of y and one legend, each given by its label of x and its lines.

    An arm is in the legend once, by its name; `band` says there what bands are. ValueError if a panel has no points.
    """
    held = [(label, [line for line in lines if line.points]) for label, lines in panels]
    if not all(lines for _, lines in held):
        raise ValueError(f"the chart {title!r} has no points to draw")
    # in the order of the panel that has most of them
    every = [line for _, lines in sorted(held, key=lambda panel: -len(panel[1])) for line in lines]
    drawn = [
        element("g", *plot(lines, label, y_label, level, every), transform=f"translate({place * WIDTH} 0)")
        for place, (label, lines) in enumerate(held)
    ]
    names = {line.name: f"curve s{line.series}{' dashed' if line.dashed else ''}" for line in every}
    names |= {} if level is None else {level[0]: "marker"}
    names |= {band: "band s0"} if band and any(line.low is not None for line in every) else {}
    # a second panel is room for a second and a third column
    columns = 1 if len(held) == 1 else len(held) + 1
    rows = -(-len(names) // columns)
    for place, (name, kind) in enumerate(names.items()):
        x = LEFT + place // rows * (len(held) * WIDTH - LEFT) / columns
        y = HEIGHT + 12 + place % rows * ROW
        if name == band:
            drawn.append(element("rect", x=x, y=y - 5, width=22, height=10, class_=kind))
        else:
            drawn.append(element("line", x1=x, x2=x + 22, y1=y, y2=y, class_=kind))
        drawn.append(element("text", name, x=x + 30, y=y + 4, class_="name"))
    width, height = len(held) * WIDTH, HEIGHT + 12 + rows * ROW
    scale = 2 if len(held) == 1 else 1.3
    svg = element(
        "svg", Html(f"<style>{colours()}\n{STYLE}</style>"), *drawn, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}", width=round(scale * width), height=round(scale * height), role="img",
        aria_label=title,
    )  # fmt: skip
    return f"{svg}\n"


def colours() -> str:
    """The pages' own series colours, as they are on a light ground."""
    sheet = (files("seppo_core.report") / "style.css").read_text(encoding="utf-8")
    found = dict(re.findall(r"--s(\d): (#[0-9a-f]{6})", sheet[: sheet.index("@media")]))
    return " ".join(f".s{number} {{ --c: {colour} }}" for number, colour in found.items())
