"""Line charts as inline SVG: several arms on one pair of axes, no library and no script."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from seppo_core.report.html import Html, element, join
from seppo_core.report.table import swatch

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 12, 40


@dataclass(frozen=True)
class Line:
    """One arm's curve: points (x, y) by rising x. `series` is its colour; `low` and `high` shade a band, y for y."""

    name: str
    series: int
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    markers: bool = False


@dataclass(frozen=True)
class Frame:
    """Maps data to the SVG's pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM), 1)


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    level: tuple[str, float] | None = None,
    note: str = "",
) -> Html:
    """A titled chart with a legend. `level` is a named horizontal line; arms without points are left out.

    A chart without any point says so in place of axes.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return element("figure", element("figcaption", title), element("p", "no data", class_="quiet"), class_="chart")
    svg = element(
        "svg",
        *plot(lines, x_label, y_label, level),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {y_label} over {x_label}",
    )
    caption = element("figcaption", element("strong", title), element("span", note, class_="quiet") if note else None)
    return element("figure", caption, svg, _legend(lines, level), class_="chart")


def plot(
    lines: Sequence[Line], x_label: str, y_label: str, level: tuple[str, float] | None, beside: Sequence[Line] = ()
) -> list[Html]:
    """Axes and curves within WIDTH x HEIGHT; `beside` are the lines of another plot that has the same axis of y."""
    frame = _frame(lines, level, beside)
    drawn = _axes(frame, x_label, y_label)
    if level is not None:
        y = frame.y(level[1])
        drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="marker"))
    drawn += [_band(line, frame) for line in lines if line.low is not None and line.high is not None]
    for line in lines:
        drawn += _curve(line, frame)
    return drawn


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) within [low, high]."""
    raw = (high - low) / count
    power = 10 ** floor(log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: max(s / raw, raw / s))
    first = -floor(-low / step + 1e-9)
    return [round(i * step, 12) for i in range(first, floor(high / step + 1e-9) + 1)]


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Means of y over a trailing window of at most `window` points: noisy curves of single updates become legible."""
    values = [y for _, y in points]
    starts = [max(0, i + 1 - window) for i in range(len(values))]
    means = [sum(values[s : i + 1]) / (i + 1 - s) for i, s in enumerate(starts)]
    return [(x, mean) for (x, _), mean in zip(points, means, strict=True)]


def _frame(lines: Sequence[Line], level: tuple[str, float] | None, beside: Sequence[Line]) -> Frame:
    xs = [x for line in lines for x, _ in line.points]
    ys = [] if level is None else [level[1]]
    for line in [*lines, *beside]:
        ys += [y for _, y in line.points]
        ys += [y for bound in (line.low, line.high) if bound is not None for y in bound]
    low, high = min(ys), max(ys)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    x_low, x_high = min(xs), max(xs)
    return Frame(x_low, x_high if x_high > x_low else x_low + 1, low - room, high + room)


def _axes(frame: Frame, x_label: str, y_label: str) -> list[Html]:
    drawn = []
    y_ticks = ticks(frame.y_low, frame.y_high)
    for value in y_ticks:
        y = frame.y(value)
        drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="gridline"))
        label = _tick(value, y_ticks)
        drawn.append(element("text", label, x=LEFT - 7, y=y + 4, text_anchor="end", class_="tick"))
    x_ticks = ticks(frame.x_low, frame.x_high)
    for value in x_ticks:
        x = frame.x(value)
        drawn.append(element("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        label = _tick(value, x_ticks)
        drawn.append(element("text", label, x=x, y=HEIGHT - BOTTOM + 17, text_anchor="middle", class_="tick"))
    bottom = HEIGHT - BOTTOM
    drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    middle = (TOP + bottom) / 2
    x_middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(element("text", x_label, x=x_middle, y=HEIGHT - 6, text_anchor="middle", class_="label"))
    turned = f"rotate(-90 10 {middle})"
    drawn.append(element("text", y_label, x=10, y=middle, text_anchor="middle", class_="label", transform=turned))
    return drawn


def _tick(value: float, all_ticks: Sequence[float]) -> str:
    """Every tick of an axis with as many digits as its step needs."""
    step = all_ticks[1] - all_ticks[0] if len(all_ticks) > 1 else abs(value) or 1
    digits = max(0, -floor(log10(step)) + (0 if abs(step / 10 ** floor(log10(step)) - 2.5) > 1e-6 else 1))
    return f"{value:.{digits}f}"


def _band(line: Line, frame: Frame) -> Html:
    upper = [(frame.x(x), frame.y(y)) for (x, _), y in zip(line.points, line.high, strict=True)]
    lower = [(frame.x(x), frame.y(y)) for (x, _), y in zip(line.points, line.low, strict=True)]
    return element("polygon", points=_joined(upper + lower[::-1]), class_=f"band s{line.series}")


def _curve(line: Line, frame: Frame) -> list[Html]:
    at = [(frame.x(x), frame.y(y)) for x, y in line.points]
    dashed = " dashed" if line.dashed else ""
    drawn = [element("polyline", points=_joined(at), class_=f"curve s{line.series}{dashed}")]
    if line.markers or len(at) == 1:
        for (x, y), (data_x, data_y) in zip(at, line.points, strict=True):
            hint = element("title", f"{line.name}: {data_y:.4g} at {data_x:g}")
            # a <circle> with a child, so that pointing at it says its value
            drawn.append(Html(f'<circle cx="{x}" cy="{y}" r="3.2" class="dot s{line.series}">{hint}</circle>'))
    return drawn


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _legend(lines: Sequence[Line], level: tuple[str, float] | None) -> Html:
    items = [element("span", swatch(line.series), line.name, class_="key") for line in lines]
    if level is not None:
        items.append(
            element("span", element("span", class_="swatch level", aria_hidden="true"), level[0], class_="key")
        )
    return element("div", join(*items), class_="legend")
