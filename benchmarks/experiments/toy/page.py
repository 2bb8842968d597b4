"""The table as one page: in short, rows with intervals and bars, learning curves, the same prompts side by side."""

from collections.abc import Sequence

import numpy as np

from benchmarks.experiments.toy.arms import ARMS
from benchmarks.experiments.toy.curves import BAND, base_score, curve_line
from benchmarks.experiments.toy.folder import Paths, read_result, read_samples
from benchmarks.experiments.toy.plan import Plan
from benchmarks.experiments.toy.regimes import REGIMES, Setting
from benchmarks.experiments.toy.results import Row, Table
from benchmarks.experiments.toy.text import begun, how, not_begun
from seppo_core.report.chart import line_chart
from seppo_core.report.grid import GridRow, sample_grid
from seppo_core.report.html import Child, Html, element
from seppo_core.report.page import Section, notes, page, row_of
from seppo_core.report.provenance import provenance_block
from seppo_core.report.statistics import Interval
from seppo_core.report.table import Cell, axis_of, interval_bar, interval_cell, number, table
from seppo_core.report.table import Row as Line_

SERIES = {"controls": 2, "SePPO and its ablations": 3, "further options": 5, "rivals": 4}
"""Colours of the groups."""
SHOWN_ARMS = ("base", "sft_matched", "seppo", "indicator_initial", "ditto", "dpo_sft")
SHOWN_PROMPTS = 6
SHOWN_NOISES = 2
NONE = Cell("–", -1e9)


def toy_page(found: Table, plan: Plan, paths: Paths, scores: dict[str, float], provenance: dict) -> Html:
    """The whole document."""
    lead = (
        "One small base, every method, the learning rate of each tuned in the same way, several training seeds, judged "
        "by an exact score on prompts that no training has seen."
    )
    sections = [Section("In short", [_summary(found, plan)])]
    for regime in plan.regimes:
        sections.append(_regime(found, plan, regime))
    grid = _samples(found, plan, paths)
    if grid is not None:
        sections.append(Section("The same prompts, the same noise", [grid]))
    told = [element("p", text.replace("**", "")) for text in how(found, plan, scores)]
    sections.append(Section("How it was measured", told))
    sections.append(Section("Where it comes from", [provenance_block(provenance)]))
    return page("Every method on the embedded task", lead, sections)


def _summary(found: Table, plan: Plan) -> Child:
    marks = {"above": "yes", "below": "no", "not apart": "fact"}
    items = [
        element("li", f"{one}" if len(plan.regimes) == 1 else f"{one.regime}: {one}", class_=marks[one.verdict])
        for one in found.comparisons
    ]
    return element("ul", *items, class_="verdicts") if items else element("p", "Nothing is finished yet.")


def _regime(found: Table, plan: Plan, regime: str) -> Section:
    rows, missing = begun(found.of(regime)), not_begun(found.of(regime))
    body: list[Child] = [] if regime == plan.regimes[0] else [element("p", REGIMES[regime].text.capitalize() + ".")]
    body.append(_table(rows, plan))
    if missing:
        body.append(element("p", f"Not run yet: {', '.join(missing)}.", class_="quiet"))
    body.append(_curves(rows))
    body.append(_rates(rows))
    failures = [text for row in rows for text in row.failures]
    if failures:
        body.append(notes("Failed, and left out", failures))
    return Section("Every arm" if regime == plan.regimes[0] else f"Regime: {regime}", body)


def _table(rows: Sequence[Row], plan: Plan) -> Html:
    known = [row.mean for row in rows if row.mean is not None]
    low, high = axis_of(known) if known else (0.0, 1.0)
    base = next((row.mean.value for row in rows if row.arm == "base" and row.mean is not None), None)
    lines = []
    for row in rows:
        series = SERIES[ARMS[row.arm].group]
        mean = row.mean
        seeds = Cell(f"{len(row.seeds)}{f' of {row.wanted}' if row.is_partial else ''}", len(row.seeds))
        lines.append(
            Line_(
                [
                    Cell(row.name),
                    *(_chosen(row, axis) for axis in range(3)),
                    NONE if row.arm == "base" else seeds,
                    NONE if mean is None else interval_cell(mean),
                    NONE if mean is None else interval_bar(mean, low, high, series, marker=base),
                    *(_difference(row.over.get(control)) for control in ("base", "sft", "sft_matched")),
                    Cell(f"{100 * row.shares['plus']:.0f} %", row.shares["plus"], number=True) if row.shares else NONE,
                    *(_shares(row)),
                    NONE if row.arm == "base" else number(row.passes / 1000, 1),
                    NONE if row.arm == "base" or row.seconds is None else number(row.seconds, 0),
                    Cell(", ".join(f"{gate} {count}" for gate, count in row.alarms.items()) or "–"),
                ],
                series,
                "control" if row.arm in ("base", "continued") else "",
            )
        )  # fmt: skip
    headings = [
        "arm", "lr", "beta", "weight", "seeds", "mean score", "95 % interval", "− base", "− SFT", "− matched SFT",
        "s = +1", "precision of +1", "worse anyway", "recall of +1", "1000 passes", "core seconds", "gates",
    ]  # fmt: skip
    caption = (
        f"Exact score on held-out prompts; {plan.seeds} training seeds were asked for. The dashed line is the base's "
        "mean; a difference in bold has an interval without 0."
    )
    return table(headings, lines, caption)


def _chosen(row: Row, axis: int) -> Cell:
    if row.setting is None or row.setting[axis] is None:
        return NONE
    value = row.setting[axis]
    return Cell(f"{value:g}{' (edge)' if row.at_edge(axis) else ''}", value)


def _difference(interval: Interval | None) -> Cell:
    if interval is None:
        return NONE
    apart = interval.low > 0 or interval.high < 0
    value = element("strong" if apart else "span", f"{interval.value:+.3f}")
    bounds = element("span", f"{interval.low:+.3f} to {interval.high:+.3f}", class_="bounds")
    return Cell(element("span", value, bounds), interval.value, number=True)


def _shares(row: Row) -> list[Cell]:
    if row.anchor is None:
        return [NONE] * 3
    found = (row.anchor.precision, row.anchor.base_rate, row.anchor.recall)
    return [NONE if one is None else interval_cell(one, digits=0, percent=True) for one in found]


def _curves(rows: Sequence[Row]) -> Html:
    """One chart per group over what training had cost, the base at the start of every curve."""
    base = base_score(rows)
    charts = []
    for group in SERIES:
        members = [row for row in rows if ARMS[row.arm].group == group and row.arm != "base" and row.curve]
        lines = [
            curve_line(row, place % 8, base, row.passes_at(1) / 1000, dashed=place > 7)
            for place, row in enumerate(members)
        ]
        if lines:
            level = None if base is None else ("base", base)
            note = f"mean over training seeds, held-out prompts, first noises; band: {BAND}"
            charts.append(line_chart(group, lines, "1000 forward passes", "mean score", level=level, note=note))
    return row_of(*charts) if charts else element("p", "No curves yet.")


def _rates(rows: Sequence[Row]) -> Html:
    """How the settings were chosen, in the order in which they were tried."""
    trained = [row for row in rows if row.tuning]
    most = max((len(row.tuning) for row in trained), default=0)
    lines = []
    for row in trained:
        tried = [_tried(*one, one[0] == row.setting) for one in row.tuning]
        lines.append(Line_([Cell(row.name), *tried, *[NONE] * (most - len(tried))]))
    headings = ["arm", *(f"{place + 1}" for place in range(most))]
    caption = "Validation score by learning rate, beta and weight of the winner term, in order; bold is chosen."
    return table(headings, lines, caption, "narrow")


def _tried(setting: Setting, score: float | None, chosen: bool) -> Cell:
    named = ", ".join(f"{value:g}" for value in setting if value is not None)
    if score is None:
        return Cell(f"– ({named})", -1e9)
    return Cell(element("strong" if chosen else "span", f"{score:.3f} ({named})"), score, number=True)


def _samples(found: Table, plan: Plan, paths: Paths) -> Html | None:
    """Evenly spaced prompts under some arms, each by its first training seed."""
    cells = []
    for arm in SHOWN_ARMS:
        row = next((row for row in found.rows if row.arm == arm and row.regime in ("main", plan.regimes[0])), None)
        if row is None or not row.seeds:
            continue
        cell = plan.base() if arm == "base" else plan.cell(row.regime, arm, row.setting, row.seeds[0], "final")
        if read_samples(paths, cell) is not None:
            cells.append((arm, cell))
    if not cells:
        return None
    results = {arm: read_result(paths, cell) for arm, cell in cells}
    samples = {arm: read_samples(paths, cell) for arm, cell in cells}
    prompts = results[cells[0][0]].prompts
    even = np.linspace(0, len(prompts) - 1, min(SHOWN_PROMPTS, len(prompts))).round().astype(int)
    noises = min(SHOWN_NOISES, found.noises)
    rows = [
        GridRow(
            prompts[i],
            [samples[arm][i, :noises] for arm, _ in cells],
            [results[arm].scores[i, :noises].tolist() for arm, _ in cells],
        )
        for i in even
    ]
    arms = [(ARMS[arm].name, number_) for number_, (arm, _) in enumerate(cells)]
    return sample_grid(arms, rows, "Evenly spaced held-out prompts, not selected; first training seed, score below.")
