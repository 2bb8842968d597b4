"""Which numbers a metric gives, how they read, and which metrics a protocol can have; loads nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.evaluation.metrics.catalogue import METRICS, diagnose_metrics, metric_entry
from seppo_core.judging.catalogue import ANY_OPEN_CLIP, SCORERS, parse_locations
from seppo_core.judging.columns import Column, Kind, Mode
from seppo_core.judging.doctor import Need, diagnose
from seppo_core.judging.external.spec import columns_of_plugin

WeightLocations = Mapping[str, Mapping[str, str]]

PUBLISHED_SCALE = {"pickscore_cos": 100.0} | {
    f"hps_v{version}{resize}": 100.0 for version in ("2.0", "2.1") for resize in ("", "_noantialias")
}
"""Cosines are published ×100."""
FRAME_PARTS = {"frame_mean": "mean over frames", "frame_min": "worst frame", "frame_sd": "deviation over frames"}


def mode_of(metric: str, kind: Kind) -> Mode:
    """How a metric looks at a sample. ValueError, with those there are, for one that does not exist or does not fit."""
    if metric in SCORERS:
        return "image" if kind == "image" else "frames"
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join([*SCORERS, ANY_OPEN_CLIP, *METRICS])}")
    mode = metric_entry(metric).kind
    if kind == "image" and mode == "clip":
        raise ValueError(f"{metric} measures change over time; pictures have none")
    if kind == "image" and metric.startswith(("fvd", "kvd")):
        raise ValueError(f"{metric} measures clips; for pictures use fid[clean] or kid[clean]")
    return mode


def columns_of(metric: str, kind: Kind) -> list[Column]:
    """The columns that a metric fills."""
    mode = mode_of(metric, kind)
    if metric in SCORERS:
        what, scale = SCORERS[metric].what, PUBLISHED_SCALE.get(metric, 1.0)
        digits = 2 if scale != 1 or metric == "clip_score" or metric.startswith("open_clip_score") else 3
        if mode == "image":
            return [Column(metric, metric, mode, what, 1, scale, digits)]
        return [
            Column(f"{metric}_{part}", metric, mode, f"{what}; {words}", -1 if part == "frame_sd" else 1, scale, digits)
            for part, words in FRAME_PARTS.items()
        ]
    entry = METRICS[metric]
    digits = 2 if metric == "psnr" or metric.startswith(("fid", "fvd")) else 4 if mode == "set" else 3
    return [Column(metric, metric, mode, entry.what, entry.better, 1.0, digits)]


def judge_columns(metric: str, about: Mapping[str, Any], kind: Kind) -> list[Column]:
    """The columns of a metric that was used, whether it is built in or a plug-in."""
    plugin = about.get("plugin")
    return columns_of(metric, kind) if plugin is None else list(columns_of_plugin(metric, plugin))


def needs_references(metrics: Iterable[str], kind: Kind) -> list[str]:
    """Those of `metrics` that compare with real samples."""
    return [metric for metric in metrics if mode_of(metric, kind) in ("paired", "set")]


def needs_of(metrics: Iterable[str], kind: Kind, places: WeightLocations) -> list[Need]:
    """The files that the metrics read, with those that are missing on this machine."""
    needs = []
    for metric in metrics:
        mode_of(metric, kind)
        needs += diagnose([metric], places) if metric in SCORERS else diagnose_metrics([metric], places)
    return needs


def parse_places(given: Iterable[str]) -> dict[str, dict[str, str]]:
    """{metric: {part: location}} from the values of --weights. Errors as `parse_locations`."""
    return parse_locations(given, "--weights", SCORERS, METRICS)
