"""Runs or checkpoints of them beside one another: samples, scores, curves, and what their settings differ in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seppo_core.report.curves import Curves, curve_charts, score_chart
from seppo_core.report.html import Child, Html, element, join
from seppo_core.report.page import Section, facts, page_with_files, row_of
from seppo_core.report.statistics import Interval
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, swatch, table
from seppo_core.report.tiles import Side, prompts_side_by_side
from seppo_core.run.history import read_metrics
from seppo_core.run.previews import PreviewRecord
from seppo_core.run.status import Status, status_rows

SERIES = (2, 1, 5, 4, 6, 7)
"""Colours of the runs in turn."""
LEAD = "The same prompts from the same noise, and what was measured on the way."
"""By which a page of this kind is known."""
TOLD = ("state", "done", "held out", "score", "best", "health")


@dataclass(frozen=True)
class Compared:
    """One of those that are compared. `preview` is the record of what `side` shows, if a preview does; `settings` are
    the run's, by dotted key."""

    name: str
    run: str
    """What the run is called, where its checkpoint is of no matter."""
    chosen: bool
    """Whether it was chosen as the best of its run's previews."""
    status: Status
    side: Side
    preview: PreviewRecord | None
    settings: Mapping[str, Any]


def compare_page(prompts: Sequence[str], all_of_them: Sequence[Compared], how: str, base: Path) -> Html:
    """The whole document, in the folder `base`; `how` says how the samples were drawn."""
    runs = list({one.status.folder: one for one in all_of_them}.values())
    names = [one.name for one in all_of_them]
    sections = [
        Section("Samples", [element("p", how, class_="quiet"),
                            *prompts_side_by_side(prompts, [one.side for one in all_of_them], base)]),
        *_scores(all_of_them),
        *_curves(runs),
        *_settings(runs),
        Section("Where they stand", [_standing(runs)]),
    ]  # fmt: skip
    return page_with_files(f"{', '.join(names[:-1])} and {names[-1]}", LEAD, sections)


def _scores(all_of_them: Sequence[Compared]) -> list[Section]:
    scored = [one for one in all_of_them if one.preview is not None and one.preview.mean is not None]
    if len(scored) < 2 or len({one.preview.kind for one in scored}) > 1:
        return []
    first, rows = scored[0].preview, []
    low, high = axis_of([one.preview.mean for one in scored])
    for number, one in enumerate(scored):
        difference = one.preview.gain(first)
        against = Cell("–", 0.0, number=True) if number == 0 else interval_cell(difference, 4, sign="+")
        bar = interval_bar(one.preview.mean, low, high, SERIES[number], marker=first.mean.value)
        rows.append(Row([Cell(one.name), interval_cell(one.preview.mean, 4), bar, against], SERIES[number]))
    drawing, seeds = first.drawing, len(first.scores[0])
    caption = (
        f"{first.judge} on {len(drawing.prompts)} prompts x {seeds} samples, of which the page shows "
        f"{drawing.per_prompt}; differences are paired by sample. {_verdict(scored)}"
        + " What was chosen by these very scores, as the best, is favoured here."
        * any(one.chosen for one in scored)
    )
    headings = ["", "mean", "95 % interval", "against the first"]
    return [Section("Scores", [table(headings, rows, caption, class_="scores")])]


def _verdict(scored: Sequence[Compared]) -> str:
    """Whether the last one is apart from the first, by the interval of their difference."""
    found: Interval = scored[-1].preview.gain(scored[0].preview)
    one, other = scored[-1].name, scored[0].name
    if found.low > 0:
        return f"{one} scores above {other}."
    if found.high < 0:
        return f"{one} scores below {other}."
    return f"The interval of {one} against {other} holds 0: they are not apart."


def _curves(runs: Sequence[Compared]) -> list[Section]:
    curves = [
        Curves(one.run, series, read_metrics(one.status.folder), one.status.previews.scored)
        for one, series in zip(runs, SERIES, strict=False)
    ]
    charts = curve_charts(curves)
    scored = [run for run in curves if run.scored]
    if len({one.scored[-1].kind for one in scored}) == 1:
        charts.insert(0, score_chart(scored))
    return [Section("Curves", [row_of(*charts)])] if charts else []


def _settings(runs: Sequence[Compared]) -> list[Section]:
    if len(runs) < 2:
        return []
    keys = {key: None for one in runs for key in one.settings if key != "run"}
    rows = [
        Row([Cell(key), *(Cell(_shown(one.settings.get(key))) for one in runs)])
        for key in keys
        if len({_shown(one.settings.get(key)) for one in runs}) > 1
    ]
    if not rows:
        return [Section("Settings", [element("p", "All settings are the same.")])]
    headings = ["key", *(one.run for one in runs)]
    return [Section("Settings", [table(headings, rows, "Keys of the configs that differ.", class_="settings")])]


def _standing(runs: Sequence[Compared]) -> Html:
    boxes: list[Child] = []
    for one, series in zip(runs, SERIES, strict=False):
        name = join(swatch(series), one.run)
        told = facts([(what, value) for what, value in status_rows(one.status) if what in TOLD])
        boxes.append(element("article", element("h3", name), element("div", told, class_="facts"), class_="prompt"))
    return element("div", *boxes, class_="prompts")


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
