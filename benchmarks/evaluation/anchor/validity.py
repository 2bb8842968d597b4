"""How well s = ±1 says that the reference's sample is the worse one: precision, recall and their intervals.

The unit is the caption: its items and draws are not independent, so that the intervals are of clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seppo_core.report.statistics import Interval, share_interval, t_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Validity:
    """How well s agrees with a judge. An interval is None if its fraction has a denominator of zero."""

    draws: int
    """Signs that were counted; those of items on which the judge ties are left out."""
    tied: int
    """Items on which the judge scores both samples alike."""
    share_plus: Interval | None
    """How often s = +1."""
    base_rate: Interval | None
    """How often the reference's sample is the worse one, whatever s says: the precision of a coin."""
    precision: Interval | None
    """Precision of s = +1: how often the reference's sample is then the worse one."""
    recall: Interval | None
    """Recall of s = +1: the share of the cases with a worse reference sample that it finds."""
    precision_minus: Interval | None
    """Precision of s = −1: how often the reference's sample is then the better one."""
    recall_minus: Interval | None
    """Recall of s = −1."""
    gain: Interval | None
    """Precision minus base rate: what s knows beyond a coin, zero if it is independent of the judge."""

    def to_json(self) -> dict[str, object]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def validity(plus: NDArray[np.bool_], margin: Array, captions: Sequence[str]) -> Validity:
    """`plus` (items, draws) is where s = +1; `margin` (items,) the judge's score of the policy's sample minus that of
    the reference's; `captions` (items,) tell which items belong together.

    Raises ValueError if the shapes do not fit or a margin is not finite.
    """
    if plus.ndim != 2 or margin.shape != plus.shape[:1] or len(captions) != len(margin):
        raise ValueError(f"signs of shape {plus.shape}, {margin.shape} margins and {len(captions)} captions do not fit")
    if not np.isfinite(margin).all():
        raise ValueError(f"{int((~np.isfinite(margin)).sum())} margins are not finite; leave their items out")
    decided = margin != 0
    plus, worse = plus[decided], margin[decided] > 0
    names = [caption for caption, there in zip(captions, decided, strict=True) if there]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    clusters = np.array([numbers[name] for name in names], dtype=int)
    width = plus.shape[1]
    counted = {
        "both": plus.sum(1) * worse,
        "plus": plus.sum(1),
        "worse": width * worse,
        "neither": (~plus).sum(1) * ~worse,
        "minus": (~plus).sum(1),
        "better": width * ~worse,
        "all": np.full(len(plus), width),
    }
    sums = {key: np.bincount(clusters, value, minlength=len(numbers)) for key, value in counted.items()}
    shares = {
        name: share_interval(sums[above], sums[below]) if sums[below].sum() else None
        for name, above, below in (
            ("share_plus", "plus", "all"),
            ("base_rate", "worse", "all"),
            ("precision", "both", "plus"),
            ("recall", "both", "worse"),
            ("precision_minus", "neither", "minus"),
            ("recall_minus", "neither", "better"),
        )
    }
    gain = None
    if shares["precision"] is not None and shares["base_rate"] is not None:
        gain = _gain(shares["precision"].value, shares["base_rate"].value, sums)
    return Validity(int(plus.size), int((~decided).sum()), gain=gain, **shares)


def in_bins(u: Array, bins: int) -> NDArray[np.int64]:
    """Which of `bins` equal parts of [0, 1) each uniform lies in."""
    return np.minimum((u * bins).astype(int), bins - 1)


def by_bin(plus: NDArray[np.bool_], u: Array, margin: Array, captions: Sequence[str], bins: int) -> dict[int, Validity]:
    """`validity` in each part of the timesteps. Every item has as many draws in a bin as any other (ValueError)."""
    where = in_bins(u, bins)
    found = {}
    for number in range(bins):
        counts = (where == number).sum(1)
        if len(set(counts.tolist())) > 1:
            raise ValueError(f"items have {counts.min()} to {counts.max()} draws in bin {number}; draw them by stratum")
        if counts[0]:
            inside = plus[where == number].reshape(len(plus), counts[0])
            found[number] = validity(inside, margin, captions)
    return found


def _gain(precision: float, base_rate: float, sums: Mapping[str, Array]) -> Interval:
    """Difference of two shares of the same captions, with Student's t over its linearised parts (Woodruff 1971)."""
    value, count = precision - base_rate, len(sums["all"])
    if count == 1:
        return Interval(value, -1.0, 1.0)
    parts = (sums["both"] - precision * sums["plus"]) / sums["plus"].mean()
    parts = parts - (sums["worse"] - base_rate * sums["all"]) / sums["all"].mean()
    return t_interval(parts, value)


def rows_of(found: Mapping[str, Validity]) -> list[dict]:
    """As a report holds them: one row per name."""
    return [{"scope": name, **one.to_json()} for name, one in found.items()]
