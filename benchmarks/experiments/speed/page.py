"""The report as one page: each comparison as a table with bars, its rounds as curves, and what was not measured."""

from collections.abc import Sequence

from benchmarks.experiments.speed.memory import Memory, megabytes
from benchmarks.experiments.speed.report import Report, confidence, how, short, summary
from benchmarks.experiments.speed.results import Measured, Result
from seppo_core.report.chart import Line, line_chart
from seppo_core.report.html import Child, Html, element
from seppo_core.report.page import Section, notes, page, row_of
from seppo_core.report.provenance import provenance_block
from seppo_core.report.statistics import Interval
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, number, table

NONE = Cell("–", -1e9, number=True)
COLOURS = 8


def speed_page(report: Report) -> Html:
    """The whole document."""
    lead = "What training costs, part by part: each figure is a ratio of two variants, timed in turn in one run."
    sections = [Section("In short", [_summary(report)])]
    for subject in report.subjects:
        body: list[Child] = []
        for result in report.of(subject):
            if result.variants:
                body += _comparison(result)
        if body:
            sections.append(Section(subject, body))
    if report.left:
        items = [element("li", element("strong", name), f": {reason}") for name, reason in report.left]
        sections.append(Section("Not measured here", [element("ul", *items)]))
    charts = [_rounds(result, report) for result in report.results if result.rounds > 1 and len(result.variants) > 1]
    if charts:
        told = "Each round's ratio to the baseline. Flat lines are a quiet machine; what moves one line alone is noise."
        sections.append(Section("Round by round", [element("p", told), row_of(*charts, *_filler(charts))]))
    sections.append(Section("How it was measured", [element("p", text) for text in how(report)]))
    sections.append(Section("Where it comes from", [provenance_block(report.provenance)]))
    return page("The speed of training", lead, sections)


def _summary(report: Report) -> Child:
    several = len(report.subjects) > 1
    items = [
        element("li", f"{short(result.subject)}: {summary(result)}" if several else summary(result), class_="fact")
        for result in report.results
        if result.variants
    ]
    if report.partial:
        items.insert(0, element("li", "The run was broken off; what follows is what it had measured.", class_="no"))
    return element("ul", *items, class_="verdicts") if items else element("p", "Nothing was measured.")


def _comparison(result: Result) -> list[Child]:
    body: list[Child] = [element("h3", result.title), _table(result)]
    told = [*result.remarks, *(f"{one.name}: {one.note}." for one in result.variants if one.note)]
    if result.is_partial:
        told.insert(0, f"Broken off after {result.rounds} of {result.wanted_rounds} rounds.")
    if told:
        body.append(notes("To be read with it", told))
    if result.comparison == "accumulation":
        body.append(row_of(*_by_size(result)))
    return body


def _table(result: Result) -> Html:
    baseline, variants = result.variants[0], result.variants
    low, high = axis_of([one.ratio.median for one in variants])
    counted = any(one.counted is not None for one in variants)
    remembered = any(one.memory is not None for one in variants)
    rows = []
    for place, one in enumerate(variants):
        cells = [
            Cell(one.name),
            _ratio(one) if place else Cell(element("strong", "1"), 1.0, number=True),
            interval_bar(one.ratio.median, low, high, place % COLOURS, marker=1.0),
            Cell("–" if not place else "{:.2f} to {:.2f}".format(*one.ratio.quartiles), one.ratio.value, number=True),
            number(one.milliseconds.value, 1),
        ]
        cells += [NONE if one.counted is None else number(one.counted, 2)] * counted
        cells += _memory(one, baseline.memory) * remembered
        rows.append(Row(cells, place % COLOURS, "" if place else "control"))
    headings = ["variant", "ratio", confidence(result), "quartiles", "ms"]
    headings += ["by passes"] * counted + ["memory", "times"] * remembered
    caption = f"{result.question} The dashed line is the baseline, {baseline.name}; {result.rounds} rounds."
    return table(headings, rows, caption)


def _ratio(one: Measured) -> Cell:
    found = one.ratio.median
    value = element("strong" if one.ratio.differs else "span", f"{found.value:.2f}")
    bounds = element("span", f"{found.low:.2f} to {found.high:.2f}", class_="bounds")
    return Cell(element("span", value, bounds), found.value, number=True)


def _memory(one: Measured, baseline: Memory | None) -> list[Cell]:
    if one.memory is None:
        return [NONE, NONE]
    peak = one.memory.peak
    hint = f"kept {megabytes(one.memory.held)}, made {megabytes(one.memory.made)}"
    times = NONE if not baseline else number(peak / baseline.peak, 2)
    return [Cell(element("span", megabytes(peak), title=hint), float(peak), number=True), times]


def _by_size(result: Result) -> Sequence[Html]:
    """Time and memory over the size of a micro-batch."""
    size = lambda one: float(one.name.rpartition(" ")[2])  # noqa: E731
    ratios: list[Interval] = [one.ratio.median for one in result.variants]
    points = [(size(one), one.ratio.value) for one in result.variants]
    time = Line(
        "time", 2, points, low=[one.low for one in ratios], high=[one.high for one in ratios], markers=True
    )  # fmt: skip
    baseline = result.variants[0].name
    charts = [line_chart("Time of an update", [time], "micro-batch", f"times {baseline}", level=(baseline, 1.0))]
    held = [(size(one), one.memory.peak / 1e6) for one in result.variants if one.memory]
    if held:
        charts.append(line_chart("Memory", [Line("peak", 4, held, markers=True)], "micro-batch", "MB"))
    return charts


def _filler(charts: Sequence[Html]) -> list[Html]:
    """A chart that is alone would fill the page."""
    return [element("div")] if len(charts) == 1 else []


def _rounds(result: Result, report: Report) -> Html:
    base = result.variants[0]
    lines = [
        Line(
            one.name,
            place % COLOURS,
            [(i + 1, a / b) for i, (a, b) in enumerate(zip(one.rounds, base.rounds, strict=False))],
        )
        for place, one in enumerate(result.variants)
        if place
    ]
    title = result.title if len(report.subjects) == 1 else f"{result.title}: {short(result.subject)}"
    return line_chart(title, lines, "round", f"times {base.name}", level=(base.name, 1.0))
