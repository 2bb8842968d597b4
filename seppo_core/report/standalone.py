"""A line chart as an SVG file of its own, for pages that bring no style sheet."""

import re
from collections.abc import Sequence
from importlib.resources import files

from seppo_core.report.chart import HEIGHT, LEFT, WIDTH, Line, line_chart
from seppo_core.report.html import element

ROW = 17
"""Pixels a line of the legend."""
STYLE = """svg { font-family: system-ui, sans-serif; background: #fff } text { fill: #222 }
.tick { font-size: 11px; fill: #666 } .label, .name { font-size: 12px } .gridline { stroke: #e3e3e3 }
.axis { stroke: #666 } .marker { stroke: #666; stroke-dasharray: 4 3 } .dot { fill: var(--c); stroke: #fff }
.curve, .swatch { fill: none; stroke: var(--c); stroke-width: 2.1 } .dashed { stroke-dasharray: 6 4 }
.band { fill: var(--c); opacity: .15 }"""


def standalone_chart(
    title: str, lines: Sequence[Line], x_label: str, y_label: str, *, level: tuple[str, float] | None = None
) -> str:
    """The same drawing as `line_chart`, with colours and legend inside; one legend line for every arm."""
    figure = str(line_chart(title, lines, x_label, y_label, level=level))
    drawn = re.search(r"<svg[^>]*>(.*)</svg>", figure, re.DOTALL)
    if drawn is None:
        raise ValueError(f"the chart {title!r} has no points to draw")
    names = [(line.name, f"curve s{line.series}{' dashed' if line.dashed else ''}") for line in lines if line.points]
    names += [] if level is None else [(level[0], "marker")]
    legend = []
    for place, (name, kind) in enumerate(names):
        y = HEIGHT + 6 + place * ROW
        legend.append(element("line", x1=LEFT, x2=LEFT + 22, y1=y, y2=y, class_=kind))
        legend.append(element("text", name, x=LEFT + 30, y=y + 4, class_="name"))
    height = HEIGHT + 6 + len(names) * ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{2 * WIDTH}" '
        f'height="{2 * height}" role="img">'
    )
    return f"{head}<style>{colours()}\n{STYLE}</style>{drawn.group(1)}{''.join(map(str, legend))}</svg>\n"


def colours() -> str:
    """The pages' own series colours, as they are on a light ground."""
    sheet = (files("seppo_core.report") / "style.css").read_text(encoding="utf-8")
    found = dict(re.findall(r"--s(\d): (#[0-9a-f]{6})", sheet[: sheet.index("@media")]))
    return " ".join(f".s{number} {{ --c: {colour} }}" for number, colour in found.items())
