"""Values with their intervals, a row each, as an SVG file of its own."""

from collections.abc import Sequence

from seppo_core.report.chart import ticks
from seppo_core.report.html import Html, element
from seppo_core.report.standalone import STYLE, colours
from seppo_core.report.statistics import Interval

WIDTH, ROW, TOP, BOTTOM = 790, 22, 14, 44
NAMES, VALUES, EDGE = 340, 162, 10
"""Pixels for the names at the left, for the figures at the right, and around both."""


def interval_chart(rows: Sequence[tuple[str, int, Interval]], label: str) -> str:
    """One row for every (name, series, interval), with a line at zero; a row is pale if its interval holds zero.

    The figures stand beside the bars, so that the drawing can be read without a table. ValueError without rows.
    """
    if not rows:
        raise ValueError("a chart of intervals needs at least one row")
    low = min(0.0, *(one.low for _, _, one in rows))
    high = max(0.0, *(one.high for _, _, one in rows))
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room
    left, right = NAMES, WIDTH - VALUES
    bottom = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    drawn: list[Html] = []
    for value in ticks(low, high):
        drawn.append(element("line", x1=x(value), x2=x(value), y1=TOP, y2=bottom, class_="gridline"))
        text = f"{value:+g}" if value else "0"
        drawn.append(element("text", text, x=x(value), y=bottom + 16, text_anchor="middle", class_="tick"))
    drawn.append(element("line", x1=x(0), x2=x(0), y1=TOP, y2=bottom, class_="axis"))
    drawn.append(element("text", label, x=(left + right) / 2, y=bottom + 36, text_anchor="middle", class_="label"))
    for place, (name, series, one) in enumerate(rows):
        y = TOP + ROW * (place + 0.5)
        pale = " pale" if one.low <= 0 <= one.high else ""
        figures = f"{one.value:+.3f} ({one.low:+.3f}, {one.high:+.3f})"
        drawn += [
            element("text", name, x=left - 8, y=y + 4, text_anchor="end", class_="name"),
            element("line", x1=x(one.low), x2=x(one.high), y1=y, y2=y, class_=f"curve s{series}{pale}"),
            element("circle", cx=x(one.value), cy=y, r=4, class_=f"dot s{series}{pale}"),
            element("text", figures, x=WIDTH - EDGE, y=y + 4, text_anchor="end", class_="tick"),
        ]
    height = bottom + BOTTOM
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{2 * WIDTH}" '
        f'height="{2 * height}" role="img">'
    )
    return f"{head}<style>{colours()}\n{STYLE} .pale {{ opacity: .45 }}</style>{''.join(map(str, drawn))}</svg>\n"
