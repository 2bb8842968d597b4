"""What runs have logged, as charts: one or several runs on the same axes, and what to look for beside each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, log

from seppo_core.report.chart import Line, line_chart, smoothed
from seppo_core.report.html import Html
from seppo_core.run.previews import PreviewRecord

POINTS = 300
"""Points of a curve; more cannot be told apart."""
SMOOTHED = 50
"""Updates that a noisy curve is averaged over at most."""


@dataclass(frozen=True)
class Curves:
    """A run's name and colour, its metrics, one dictionary an update, and its scored previews."""

    name: str
    series: int
    metrics: Sequence[dict]
    scored: Sequence[PreviewRecord] = ()


@dataclass(frozen=True)
class _Chart:
    title: str
    metric: str
    y: str
    note: str
    smooth: bool = True


CHARTS = (
    _Chart("Loss", "loss", "loss", "it says nothing about quality; it falls while a model collapses, too"),
    _Chart("Error on winners", "winner_error", "squared error", "should not rise above its beginning"),
    _Chart(
        "Error on held-out winners", "held_out_error", "squared error",
        "rises where what is learnt no longer carries over", smooth=False,
    ),
    _Chart("Held-out accuracy", "held_out_accuracy", "share", "items that prefer the right side more than the base"
           " does", smooth=False),
    _Chart("Samples that lose", "share_s_plus", "share", "all or none for long: the anchor decides nothing"),
    _Chart("Margin", "margin", "margin", "far above 0 the loss is flat and nothing is learnt"),
    _Chart("Variance of the samples", "sample_variance", "variance", "falls by half where samples collapse",
           smooth=False),
    _Chart("Gradient norm", "grad_norm", "norm", "before clipping"),
    _Chart("Learning rate", "lr", "rate", "", smooth=False),
    _Chart("Time", "seconds", "seconds an update", "without sampling and previews"),
)  # fmt: skip


def curve_charts(runs: Sequence[Curves]) -> list[Html]:
    """A chart of every metric that any of `runs` has logged."""
    return [chart for one in CHARTS if (chart := _chart(one, runs)) is not None]


def score_chart(runs: Sequence[Curves]) -> Html:
    """The mean scores of previews with their intervals, which are bands."""
    lines = [
        Line(
            run.name, run.series, [(one.update, one.mean.value) for one in run.scored],
            low=[one.mean.low for one in run.scored], high=[one.mean.high for one in run.scored], markers=True,
        )
        for run in runs
    ]  # fmt: skip
    start = next((one.mean.value for run in runs for one in run.scored if one.update == 0), None)
    return line_chart(
        "Score of the previews", lines, "updates", "mean score", level=None if start is None else ("start", start),
        note="mean with its 95 % interval over prompts",
    )  # fmt: skip


def _chart(chart: _Chart, runs: Sequence[Curves]) -> Html | None:
    curves = [_points(run.metrics, chart.metric) for run in runs]
    window = min(SMOOTHED, max(map(len, curves)) // 20) if chart.smooth else 1
    lines = []
    for run, points in zip(runs, curves, strict=True):
        points = smoothed(points, max(1, window))
        lines.append(Line(run.name, run.series, _thinned(points), markers=len(points) <= 12))
    if chart.metric == "winner_error" and len(runs) == 1 and len(base := _base_errors(runs[0].metrics)) > window:
        lines.append(Line("the base, on the same draws", 0, _thinned(smoothed(base, max(1, window))), dashed=True))
    if not any(line.points for line in lines):
        return None
    note = "; ".join(part for part in (chart.note, f"means of {window} updates" if window > 1 else "") if part)
    return line_chart(chart.title, lines, "updates", chart.y, level=_level(chart, runs), note=note)


def _level(chart: _Chart, runs: Sequence[Curves]) -> tuple[str, float] | None:
    """What a curve is to be held against."""
    first = next((run.metrics[0] for run in runs if run.metrics), {})
    if chart.metric == "loss" and isclose(first.get("loss") or 0.0, log(2), abs_tol=1e-3):
        return "log 2: policy and reference are equal", log(2)
    if chart.metric == "winner_error" and first.get("start_error") is not None:
        return "base", first["start_error"]
    found = (line["held_out_start"] for run in runs for line in run.metrics if line.get("held_out_start") is not None)
    start = next(found, None) if chart.metric == "held_out_error" else None
    return None if start is None else ("base", start)


def _base_errors(metrics: Sequence[dict]) -> list[tuple[float, float]]:
    """The base's errors on the winners, of the updates in which it was the reference."""
    return [
        (line["update"], line["winner_error"] - line["winner_gap"])
        for line in metrics
        if line.get("reference") == 0 and None not in (line.get("winner_error"), line.get("winner_gap"))
    ]


def _points(metrics: Sequence[dict], name: str) -> list[tuple[float, float]]:
    return [(line["update"], line[name]) for line in metrics if line.get(name) is not None]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `POINTS` of them, the last one always."""
    step = max(1, len(points) // POINTS)
    return points[(len(points) - 1) % step :: step]
