"""How many times as long one variant takes as another: a median over rounds, with an interval that assumes no shape.

Both variants of a round were timed right after one another, so that a ratio is formed within it: a machine that slows
down slows both. What is left are rounds that something else broke into, which a median ignores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from seppo_core.report.statistics import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """A sample's median, its interval and quartiles."""

    median: Interval
    """With the bounds of its interval, whose probability is at least `CONFIDENCE` unless the rounds are too few."""
    confidence: float
    """What the interval's bounds hold with."""
    quartiles: tuple[float, float]

    @property
    def value(self) -> float:
        return self.median.value

    @property
    def differs(self) -> bool:
        """Of a ratio: whether its interval leaves 1 out."""
        return self.median.low > 1 or self.median.high < 1

    def to_json(self) -> dict[str, float | list[float]]:
        low, high = self.median.low, self.median.high
        quartiles = list(self.quartiles)
        return {"median": self.value, "interval": [low, high], "confidence": self.confidence, "quartiles": quartiles}


def ratio(variant: Sequence[float], baseline: Sequence[float]) -> Spread:
    """Of the rounds that both have; ValueError where there is none."""
    return spread([one / other for one, other in zip(variant, baseline, strict=False)])


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles, and the interval between two order statistics (Thompson 1936), which needs no distribution.

    The k-th smallest and k-th largest of n independent values hold the median between them with probability
    1 − 2 P(B < k), B binomial (n, ½); k is the largest for which that is still 95 %. Fewer than six values reach no
    95 %: their range is given, with what it holds.
    """
    if not values:
        raise ValueError("no round was timed; a ratio needs at least one")
    ordered = np.sort(np.asarray(values, dtype=float))
    place, confidence = _place(len(ordered))
    low, high = ordered[place - 1], ordered[len(ordered) - place]
    lower, upper = np.percentile(ordered, [25, 75])
    interval = Interval(float(np.median(ordered)), float(low), float(high))
    return Spread(interval, confidence, (float(lower), float(upper)))


def _place(count: int) -> tuple[int, float]:
    """k, and the probability that the median lies between the k-th smallest and the k-th largest of `count`."""
    place, confidence = 1, 1 - 2 / 2**count
    for candidate in range(2, count // 2 + 1):
        held = 1 - 2 * sum(comb(count, i) for i in range(candidate)) / 2**count
        if held < CONFIDENCE:
            break
        place, confidence = candidate, held
    return place, confidence
