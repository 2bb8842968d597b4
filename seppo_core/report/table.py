"""Tables with intervals drawn as bars; a click on a heading sorts."""

from collections.abc import Sequence
from dataclasses import dataclass

from seppo_core.report.html import TEMPLATES, Child, Html, element, join, render
from seppo_core.report.statistics import Interval

BAR_WIDTH, BAR_HEIGHT = 200, 18


@dataclass(frozen=True)
class Cell:
    """The content of a cell and the value that it is sorted by (the text itself unless given)."""

    shown: Child
    sort: float | str | None = None
    number: bool = False

    @property
    def key(self) -> float | str:
        """The value that the cell is sorted by."""
        return self.sort if self.sort is not None else str(self.shown)


@dataclass(frozen=True)
class Row:
    """One line of a table; `series` is the colour of its swatch, `kind` marks it (control, published)."""

    cells: Sequence[Cell]
    series: int | None = None
    kind: str = ""


def number(value: float, digits: int = 3) -> Cell:
    """A number, set in figures of one width and sorted by its full value."""
    return Cell(f"{value:.{digits}f}", value, number=True)


def interval_cell(interval: Interval, digits: int = 3, percent: bool = False, sign: str = "") -> Cell:
    """Estimate and bounds; sorted by the estimate. `sign` is + for differences."""
    scale, unit = (100, " %") if percent else (1, "")
    value, low, high = (f"{part * scale:{sign}.{digits}f}" for part in interval)
    shown = join(
        element("strong", value + unit), " ", element("span", f"{low} to {high}", class_="bounds"),
    )  # fmt: skip
    return Cell(shown, interval.value, number=True)


def interval_bar(interval: Interval, low: float, high: float, series: int, marker: float | None = None) -> Cell:
    """The interval as a bar on an axis from `low` to `high`, its estimate a dot; `marker` is a dashed line to beat."""
    x = lambda value: round(6 + (value - low) / (high - low) * (BAR_WIDTH - 12), 1)  # noqa: E731
    middle = BAR_HEIGHT / 2
    drawn = [element("line", x1=6, x2=BAR_WIDTH - 6, y1=middle, y2=middle, class_="rail")]
    if marker is not None:
        drawn.append(element("line", x1=x(marker), x2=x(marker), y1=0, y2=BAR_HEIGHT, class_="marker"))
    drawn += [
        element("line", x1=x(interval.low), x2=x(interval.high), y1=middle, y2=middle, class_=f"bar s{series}"),
        element("circle", cx=x(interval.value), cy=middle, r=4.5, class_=f"dot s{series}"),
    ]
    label = f"{interval.value:.3f}, 95 % interval {interval.low:.3f} to {interval.high:.3f}"
    svg = element(
        "svg", *drawn, class_="interval", viewBox=f"0 0 {BAR_WIDTH} {BAR_HEIGHT}", width=BAR_WIDTH, height=BAR_HEIGHT,
        role="img", aria_label=label,
    )  # fmt: skip
    return Cell(svg, interval.value)


def axis_of(intervals: Sequence[Interval], margin: float = 0.08) -> tuple[float, float]:
    """A shared axis that holds all `intervals` with a little room on both sides."""
    low, high = min(i.low for i in intervals), max(i.high for i in intervals)
    room = margin * (high - low) or 0.5
    return low - room, high + room


def table(headings: Sequence[str], rows: Sequence[Row], caption: str, class_: str = "") -> Html:
    """A sortable table. A heading that is empty does not sort."""
    return render(TEMPLATES / "table.html", headings=headings, rows=rows, caption=caption, class_=class_, swatch=swatch)


def swatch(series: int) -> Html:
    """The small square that ties a name to its colour in every chart of the page."""
    return element("span", class_=f"swatch s{series}", aria_hidden="true")
