"""Intervals and tests for scores of generated samples. The unit is the prompt: its samples are not independent.

Scores are arrays (prompts,) or (prompts, seeds); what two models are compared on has the same prompts and seeds in the
same places. All resampling is seeded, so that a report can be redone to the digit. Intervals are percentile bootstrap
intervals (Efron 1979) unless said otherwise.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
Z_95 = 1.959963984540054
EXACT_UP_TO = 16  # prompts for which all sign flips are tried: 2^16 of them
_ENTRIES_AT_ONCE = 4_000_000

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def above(self, other: "Interval") -> bool:
        """Whether this interval lies wholly above `other`: a stricter demand than a significant difference."""
        return self.low > other.high


def mean_interval(scores: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of `scores`, (prompts,) or (prompts, seeds), prompts resampled together with all their seeds.

    Raises ValueError for fewer than two prompts, an empty axis or a score that is not finite.
    """
    per_prompt = _per_prompt(scores)
    return _percentiles(per_prompt.mean(), _resampled_means(per_prompt, resamples, seed))


def nested_interval(scores: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of `scores` (prompts, seeds), resampled on two levels: prompts, and within each drawn prompt its seeds.

    For few seeds per prompt, whose own noise `mean_interval` counts only as far as it shows between the prompts.
    """
    table = _checked(scores, dimensions=(2,))
    prompts, seeds = table.shape

    def draw(generator: np.random.Generator, count: int) -> Array:
        rows = generator.integers(prompts, size=(count, prompts, 1))
        columns = generator.integers(seeds, size=(count, prompts, seeds))
        return table[rows, columns].mean((1, 2))

    return _percentiles(table.mean(), _in_parts(draw, resamples, table.size, seed))


def crossed_interval(scores: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of `scores` (runs, prompts), every run scored on the same prompts: both are resampled, each on its own.

    The bootstrap for crossed random effects of Owen (2007), which errs on the wide side. It answers whether another
    training run, judged on other prompts, would come out alike. Raises ValueError for fewer than two runs or prompts.
    """
    table = _checked(scores, dimensions=(2,))
    runs, prompts = table.shape
    if runs < 2:
        raise ValueError(f"scores of shape {table.shape} hold {runs} run; an interval over runs needs at least 2")

    def draw(generator: np.random.Generator, count: int) -> Array:
        drawn_runs = _counts(generator, count, runs)
        drawn_prompts = _counts(generator, count, prompts)
        return np.einsum("br,rp,bp->b", drawn_runs, table, drawn_prompts, optimize=True) / table.size

    return _percentiles(table.mean(), _in_parts(draw, resamples, runs + prompts, seed))


def paired_difference(first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of first − second on shared prompts (and seeds), prompts resampled in pairs."""
    return mean_interval(_difference(first, second), resamples=resamples, seed=seed)


def sign_flip_test(differences: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value for a mean of zero, by flipping the signs of whole prompts' differences at random.

    `differences` is (prompts,) or (prompts, seeds), first − second. All flips are tried for up to 16 prompts;
    otherwise p = (k + 1) / (resamples + 1) with k flips at least as far from zero as what was seen (Phipson & Smyth
    2010), which is never zero.
    """
    per_prompt = _per_prompt(differences)
    seen = abs(per_prompt.mean())
    # flips that give the very same mean must count whatever order they are summed in
    at_least = seen * (1 - 1e-12) - 1e-15
    if len(per_prompt) <= EXACT_UP_TO:
        signs = np.array(list(product((1.0, -1.0), repeat=len(per_prompt))))
        return float((np.abs(signs @ per_prompt / len(per_prompt)) >= at_least).mean())

    def draw(generator: np.random.Generator, count: int) -> Array:
        signs = generator.integers(2, size=(count, len(per_prompt))) * 2 - 1
        return np.abs(signs @ per_prompt / len(per_prompt))

    flipped = _in_parts(draw, resamples, len(per_prompt), seed)
    return float(((flipped >= at_least).sum() + 1) / (resamples + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them at once (Holm 1979), in the given order."""
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values {list(p_values)} must be a flat list of numbers in 0 to 1")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate((len(values) - np.arange(len(values))) * values[order])
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def wilson_interval(wins: float, trials: int, z: float = Z_95) -> Interval:
    """Share of `wins` in independent `trials`, with Wilson's score interval (1927); ties enter as half a win each."""
    if trials < 1 or not 0 <= wins <= trials:
        raise ValueError(
            f"{wins} wins of {trials} trials make no share; give 1 or more trials and at most as many wins"
        )
    share = wins / trials
    shrink = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrink
    half = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / shrink
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def win_rate(
    first: ArrayLike, second: ArrayLike, *, tie: float = 0.0, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """How often `first` scores above `second` on the same prompt and seed; |difference| ≤ `tie` counts half.

    One sample per prompt makes the trials independent: Wilson's interval. With several seeds, (prompts, seeds), the
    prompts are resampled together with all their seeds.
    """
    difference = _difference(first, second)
    wins = np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(float))
    if difference.ndim == 1 or difference.shape[1] == 1:
        return wilson_interval(float(wins.sum()), wins.size)
    return mean_interval(wins, resamples=resamples, seed=seed)


def _checked(scores: ArrayLike, dimensions: tuple[int, ...]) -> Array:
    table = np.asarray(scores, dtype=float)
    if table.ndim not in dimensions or table.size == 0:
        raise ValueError(
            f"scores of shape {table.shape} do not fit; give {' or '.join(map(str, dimensions))} full axes"
        )
    if not np.isfinite(table).all():
        raise ValueError(
            f"{int((~np.isfinite(table)).sum())} of {table.size} scores are not finite; leave failures out"
        )
    return table


def _per_prompt(scores: ArrayLike) -> Array:
    table = _checked(scores, dimensions=(1, 2))
    if len(table) < 2:
        raise ValueError(f"scores of shape {table.shape} hold one prompt; an interval over prompts needs at least 2")
    return table if table.ndim == 1 else table.mean(1)


def _difference(first: ArrayLike, second: ArrayLike) -> Array:
    first, second = _checked(first, dimensions=(1, 2)), _checked(second, dimensions=(1, 2))
    if first.shape != second.shape:
        raise ValueError(
            f"scores of shapes {first.shape} and {second.shape} are not pairs; use shared prompts and seeds"
        )
    return first - second


def _resampled_means(values: Array, resamples: int, seed: int) -> Array:
    def draw(generator: np.random.Generator, count: int) -> Array:
        return values[generator.integers(len(values), size=(count, len(values)))].mean(1)

    return _in_parts(draw, resamples, len(values), seed)


def _counts(generator: np.random.Generator, count: int, size: int) -> Array:
    """How often each of `size` units is drawn in `count` resamples, (count, size)."""
    return generator.multinomial(size, np.full(size, 1 / size), size=count).astype(float)


def _in_parts(draw: Callable[[np.random.Generator, int], Array], resamples: int, width: int, seed: int) -> Array:
    """`resamples` statistics, so many at a time that memory stays small; `width` is the entries one of them touches."""
    generator = np.random.default_rng(seed)
    size = max(1, _ENTRIES_AT_ONCE // width)
    return np.concatenate([draw(generator, min(size, resamples - at)) for at in range(0, resamples, size)])


def _percentiles(value: float, resampled: Array) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
