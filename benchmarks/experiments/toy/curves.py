"""Learning curves: their intervals over training seeds, and differences between two of them, paired by seed.

Cells keep the mean score of a curve's point over prompts and first noises, and not the scores of its prompts. So these
intervals say how far other training seeds would move a score on the same prompts, and nothing about other prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.experiments.toy.arms import ARMS
from benchmarks.experiments.toy.results import Row
from seppo_core.report.chart import Line
from seppo_core.report.statistics import Interval, t_interval

BAND = "95 % t interval over training seeds"
"""What a curve's band is."""
FIRST = "indicator_initial"
AGAINST = ("sft", "sft_matched", "gt_pair", "dpo_sft")
"""FIRST is compared with each of these."""


@dataclass(frozen=True)
class Gap:
    """FIRST − another arm by their curves, over the training seeds that both have; None is what cannot be said."""

    against: str
    seeds: int
    update: float
    passes: float
    """The smaller of both ends, in updates and in forward passes."""
    at_update: Interval | None
    """After `update` updates of both; None against an arm that makes more of them by design."""
    at_passes: Interval | None
    """After `passes` forward passes of both; None where a curve's first point comes later."""
    at_best: Interval
    """Each at the best point of its own mean curve."""


def over_seeds(scores: Sequence[float]) -> Interval | None:
    """Mean and 95 % interval (Student's t) of one score a training seed; None for one seed, which has no interval."""
    return t_interval(np.asarray(scores, dtype=float)) if len(scores) > 1 else None


def intervals(row: Row) -> list[Interval | None]:
    """One for each point of the mean curve."""
    runs = [dict(curve) for curve in row.curves]
    return [over_seeds([run[update] for run in runs if update in run]) for update, _ in row.curve]


def best_place(row: Row) -> int:
    """The highest point of the mean curve, by its place in it; the first of equals."""
    return max(range(len(row.curve)), key=lambda place: row.curve[place][1])


def base_score(rows: Sequence[Row]) -> float | None:
    """The base's score on first noises, where every curve begins."""
    return next((row.curve[0][1] for row in rows if row.arm == "base" and row.curve), None)


def curve_line(row: Row, series: int, base: float | None, scale: float = 1.0, dashed: bool = False) -> Line:
    """The mean curve from the base on, its intervals as a band; x is `scale` times the number of updates."""
    start = [] if base is None else [(0.0, base)]
    points = [*start, *((scale * update, score) for update, score in row.curve)]
    # the base is one for all training seeds
    band = [*(Interval(base, base, base) for _ in start), *intervals(row)]
    low, high = (None, None) if None in band else ([one.low for one in band], [one.high for one in band])
    return Line(row.name, series, points, dashed, low, high, markers=True)


def gaps(rows: Sequence[Row]) -> list[Gap]:
    """FIRST against every arm of AGAINST, where both are there and share two seeds or more."""
    held = {row.arm: row for row in rows if row.curve}
    found = [_gap(held[FIRST], held[arm]) for arm in AGAINST if FIRST in held and arm in held]
    return [gap for gap in found if gap is not None]


def _gap(first: Row, second: Row) -> Gap | None:
    runs, others = (dict(zip(row.seeds, row.curves, strict=True)) for row in (first, second))
    shared = sorted(runs.keys() & others.keys())
    if len(shared) < 2:
        return None

    def difference(at: float, at_second: float) -> Interval | None:
        return over_seeds([_between(runs[seed], at) - _between(others[seed], at_second) for seed in shared])

    update, passes = min(first.curve[-1][0], second.curve[-1][0]), min(first.passes, second.passes)
    # updates by which each has cost so many passes
    equal = [passes * row.curve[-1][0] / row.passes for row in (first, second)]
    is_early = any(at < row.curve[0][0] for at, row in zip(equal, (first, second), strict=True))
    return Gap(
        second.arm, len(shared), update, passes,
        None if ARMS[second.arm].matched else difference(update, update),
        None if is_early else difference(*equal),
        difference(*(row.curve[best_place(row)][0] for row in (first, second))),
    )  # fmt: skip


def _between(curve: Sequence[tuple[int, float]], update: float) -> float:
    """The score at `update`, on straight lines between the curve's points."""
    return float(np.interp(update, *zip(*curve, strict=True)))
