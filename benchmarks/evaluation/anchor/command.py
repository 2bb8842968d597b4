"""Measures every point of a run, has the samples judged, and counts how often s was right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.evaluation.anchor.judging import Scores, both, make_judge, margin, needed
from benchmarks.evaluation.anchor.limits import COUNTS, check_counts
from benchmarks.evaluation.anchor.measure import (
    Measured,
    Plan,
    Point,
    Run,
    Which,
    choose,
    measure,
    open_run,
    points,
    spread,
)
from benchmarks.evaluation.anchor.report import write_report
from benchmarks.evaluation.anchor.validity import by_bin, in_bins, rows_of, validity
from benchmarks.evaluation.columns import WeightLocations
from seppo_core.judging.doctor import table
from seppo_core.judging.external.spec import Described, Plugin, describe

ONE_DRAW, MEAN = "one draw", "mean of draws"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that `anchor` was asked for."""

    folder: Path
    out: Path
    judges: tuple[str, ...] = ()
    places: WeightLocations
    plugins: tuple[Plugin, ...] = ()
    reference: Which = "drawn"
    points: int | None = None
    items: int = 128
    draws: int = 20
    bins: int = 5
    samples: int = 1
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self):
        check_counts(points=self.points, **{name: vars(self)[name] for name in COUNTS})


def examine(request: Request) -> dict:
    """The report. FileNotFoundError before anything is drawn if a judge's files are missing."""
    run = open_run(request.folder)
    needs = needed(request.judges, run.kind, request.places)
    if any(need.missing for need in needs):
        raise FileNotFoundError(f"judges lack files:\n{table(needs)}")
    described = {plugin.name: describe(plugin, run.kind) for plugin in request.plugins}
    moments = spread(points(run, request.reference), request.points)
    plan = Plan(
        choose(len(run.cache), request.items, request.seed), request.draws, request.samples, request.batch_size,
        request.seed,
    )  # fmt: skip
    captions = run.cache.captions(list(plan.items))
    # every model first, then one judge at a time: neither has to share the device
    for point in moments:
        measure(run, point, plan, request.out)
    if run.device.type != "cpu":
        run.adapter.pipeline.to("cpu")
    judged = _judged(request, run, described, moments, plan, captions)
    content = {
        "run": "/".join(request.folder.parts[-2:]), "method": run.config.method.name, "reference": request.reference,
        "items": len(plan.items), "draws": plan.draws, "samples": plan.samples, "bins": request.bins,
        "seed": request.seed, "captions": len(set(captions)), "judges": judged,
    }  # fmt: skip
    return write_report(request.out, content)


def _judged(
    request: Request,
    run: Run,
    described: dict[str, Described],
    moments: Sequence[Point],
    plan: Plan,
    captions: list[str],
) -> list[dict]:
    scores = Scores(request.out, run.kind)
    found = []
    for name in (*request.judges, *(plugin.name for plugin in request.plugins)):
        plugin = next((plugin for plugin in request.plugins if plugin.name == name), None)
        judge = make_judge(name, run.kind, request.places, run.device, request.out) if plugin is None else None
        rows, failed = [], 0
        for point in moments:
            measured = measure(run, point, plan, request.out)
            if plugin is None:
                pair = tuple(scores.by(judge, samples, captions) for samples in both(measured))
            else:
                of = described[plugin.name]
                pair = tuple(scores.by_process(plugin, of, samples, captions) for samples in both(measured))
            margins = margin(pair).numpy()
            there = np.isfinite(margins)
            failed = max(failed, int((~there).sum()))
            if there.any():
                rows.append(_point(point, measured, margins, there, captions, request.bins))
        if not rows:
            raise ValueError(f"{name} judged no sample; the reasons are in {request.out / 'scores'}")
        found.append({"name": name, "failed": failed, "points": rows})
        del judge
    return found


def _point(
    point: Point, measured: Measured, margins: np.ndarray, there: np.ndarray, captions: Sequence[str], bins: int
) -> dict:
    """One moment of training: over all draws, by their mean, and by timesteps."""
    keep = torch.from_numpy(there)
    plus, u, t = measured.plus[keep].numpy(), measured.u[keep].numpy(), measured.t[keep].double().numpy()
    margins, names = margins[there], [caption for caption, ok in zip(captions, there, strict=True) if ok]
    # Theorem 4.1 speaks of the mean over timesteps and noises, of which the loss sees one draw
    averaged = (measured.winner_gap[keep].double().mean(1) < 0).numpy()[:, None]
    overall = {ONE_DRAW: validity(plus, margins, names), MEAN: validity(averaged, margins, names)}
    where = in_bins(u, bins)
    rows = rows_of({str(number): one for number, one in by_bin(plus, u, margins, names, bins).items()})
    for row in rows:
        inside = t[where == int(row["scope"])]
        row["t"] = [float(inside.min()), float(inside.max())]
    return {
        "update": point.update, "iteration": point.iteration, "reference": point.reference, "items": int(there.sum()),
        "mean_margin": float(margins.mean()), "overall": rows_of(overall), "bins": rows,
    }  # fmt: skip
