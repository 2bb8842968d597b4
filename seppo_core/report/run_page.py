"""A run's own page, `report.html` in its folder: what a person looks at while it trains and after, without a server."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from seppo_core.report.curves import Curves, curve_charts, score_chart
from seppo_core.report.html import Child, Html, element
from seppo_core.report.page import Section, facts, notes, page_with_files, row_of, save_page
from seppo_core.report.sheet import sheet_of
from seppo_core.report.table import Cell, Row, axis_of, interval_bar, interval_cell, table
from seppo_core.report.tiles import Side, film, prompts_side_by_side
from seppo_core.run.eta import clock
from seppo_core.run.history import read_metrics
from seppo_core.run.previews import FOLDER, PreviewRecord, Previews, best_text
from seppo_core.run.status import PAGE, Status, read_status, status_rows

REFRESH = 15
"""Seconds after which the page of a run that goes on loads itself anew."""
FILMED, FRAMES = 4, 8
"""Prompts whose first sample is shown over the updates, and of how many previews at most."""
ROWS = 20
"""Previews in the table of scores."""
SMALL = "small"
"""Folder of smaller copies, beside the previews."""
SERIES, START = 2, 0
T = TypeVar("T")


def write_run_page(folder: Path) -> Path:
    """Writes the page of the run in `folder` from what lies there; returns it. FileNotFoundError if it is no run."""
    path = folder / PAGE
    save_page(path, run_page(read_status(folder)))
    return path


def run_page(status: Status, now: float | None = None) -> Html:
    """The whole document."""
    now = time.time() if now is None else now
    goes_on = status.state == "running"
    sections = [
        Section("State", [_progress(status), *_alarms(status), _facts(status, now)]),
        *_samples(status),
        *_scores(status.previews),
        *_curves(status),
    ]
    return page_with_files(_title(status.folder.absolute()), _lead(status, now), sections, REFRESH if goes_on else None)


def _title(folder: Path) -> str:
    """What the run is called: by its folder, or where that is called run, as of `init toy`, by the one above it too."""
    return folder.name if folder.name != "run" else f"{folder.parent.name}/run"


def _lead(status: Status, now: float) -> str:
    at = datetime.fromtimestamp(now).astimezone()
    told = f"{status.what}: {status.state}, update {status.update} of {status.total}"
    if status.left and status.state == "running":
        told += f", about {clock(status.left)} left"
    return f"{told}. Written {at:%Y-%m-%d %H:%M:%S}."


def _progress(status: Status) -> Html:
    share = 100 * status.update / status.total
    bar = element("span", style=f"width:{share:.1f}%")
    return element("div", bar, class_="progress", role="img", aria_label=f"{share:.0f} % of the updates are done")


def _facts(status: Status, now: float) -> Html:
    left_out = ("run", "last sign", "page", "health" if status.standing else "")
    shown = facts([(name, value) for name, value in status_rows(status, now) if name not in left_out])
    return element("div", shown, class_="facts")


def _alarms(status: Status) -> list[Child]:
    lines = [*(str(alarm) for alarm in status.standing), *status.damaged]
    return [element("div", notes("Look at this", lines), class_="alarms")] if lines else []


def _samples(status: Status) -> list[Section]:
    previews, base = status.previews, status.folder
    shown = [(one, side) for one in previews.all if (side := side_of(base, one, _name(one), base / FOLDER / SMALL))]
    if not shown:
        return []
    newest, now = shown[-1]
    sides, prompts = [now], newest.drawing.prompts
    start = next((one for one in previews.all if one.update == 0 and one.drawing == newest.drawing), None)
    if newest.update and (before := _start(base, newest, start)) is not None:
        sides = [before, now]
    how = f"{newest.drawing.steps} steps, guidance {newest.drawing.guidance_scale:g}, seed {newest.drawing.seed}"
    told = element("p", f"Every sample from the same noise as the one in its place: {how}.", class_="quiet")
    found = [Section("Samples", [told, *prompts_side_by_side(prompts, sides, base)])]
    alike = [side for one, side in shown if one.drawing == newest.drawing]
    if len(alike) > 2:
        films = [
            element("article", element("h3", prompt), film(row, _spread(alike, FRAMES), prompt, base), class_="prompt")
            for row, prompt in enumerate(prompts[:FILMED])
        ]
        found.append(Section("Over the updates", [element("div", *films, class_="prompts")]))
    return found


def side_of(base: Path, preview: PreviewRecord, name: str, copies: Path, start: bool = False) -> Side | None:
    """The samples of a preview of the run in `base`, or those of the `start` beside them; None if its picture is gone
    or is not what the index says."""
    try:
        which = {"grid": int(preview.beside and not start), "grids": 1 + preview.beside}
        sheet = sheet_of(base / FOLDER / preview.file, *preview.drawing.grid, **which, copies=copies)
    # Pillow's of a file that is damaged are among these
    except (OSError, ValueError, SyntaxError):
        return None
    return Side(name, sheet, None if start else preview.scores)


def _start(base: Path, newest: PreviewRecord, start: PreviewRecord | None) -> Side | None:
    """The start's samples: those beside the newest ones, so that clips play in step, or its own preview's."""
    copies = base / FOLDER / SMALL
    if newest.beside and (found := side_of(base, newest, "start", copies, start=True)) is not None:
        return replace(found, scores=None if start is None else start.scores)
    return None if start is None else side_of(base, start, "start", copies)


def _scores(previews: Previews) -> list[Section]:
    scored = previews.scored
    if not scored:
        return []
    best = previews.best(kept_alone=False)
    body: list[Child] = []
    if len(scored) > 1:
        body.append(row_of(score_chart([Curves(previews.folder.name, SERIES, (), scored)])))
    body.append(score_table(scored, previews.start, best))
    if best is not None:
        body.append(element("p", f"Best: {best_text(best, previews)}.", class_="quiet"))
    return [Section("Scores", body)]


def score_table(scored: Sequence[PreviewRecord], start: PreviewRecord | None, best: PreviewRecord | None) -> Html:
    """A line a preview: its mean, and its difference to the start."""
    low, high = axis_of([one.mean for one in scored])
    shown = [*_spread(scored, ROWS), best]
    level = None if start is None else start.mean.value
    rows = [
        Row(
            [
                Cell((str(one.update) if one.update else "start") + " · best" * (one is best), one.update),
                interval_cell(one.mean, 4),
                interval_bar(one.mean, low, high, SERIES if one.update else START, marker=level),
                _gain_cell(one, start),
            ]
        )
        for one in scored
        if one in shown
    ]
    drawing, seeds = scored[-1].drawing, len(scored[-1].scores[0])
    caption = f"{scored[-1].judge}, {len(drawing.prompts)} prompts x {seeds} samples; differences are paired by sample."
    return table(["update", "mean", "95 % interval", "against the start"], rows, caption, class_="scores")


def _curves(status: Status) -> list[Section]:
    charts = curve_charts([Curves(status.folder.name, SERIES, read_metrics(status.folder))])
    return [Section("Curves", [row_of(*charts)])] if charts else []


def _name(preview: PreviewRecord) -> str:
    return f"update {preview.update}" if preview.update else "start"


def _gain_cell(preview: PreviewRecord, start: PreviewRecord | None) -> Cell:
    gain = None if preview is start else preview.gain(start)
    return Cell("–", 0.0, number=True) if gain is None else interval_cell(gain, 4, sign="+")


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]
