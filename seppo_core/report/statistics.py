"""Intervals and tests for scores of generated samples. The unit is the prompt: its samples are not independent.

Scores are arrays (prompts,) or (prompts, seeds); what two models are compared on has the same prompts and seeds in the
same places. Intervals are closed forms: Student's t for means (1908), Wilson's score interval for shares (1927).
Percentile bootstrap intervals, whose widths are those of n in place of n - 1 units and of the normal in place of the t
distribution (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"), cover 83 % for five units where they
promise 95 %. `python -m benchmarks coverage` prints by simulation how often each kind of interval holds the truth.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from math import cos, pi, sin, sqrt, tan
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
LEVEL = 0.95
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


def mean_interval(scores: ArrayLike) -> Interval:
    """Mean of `scores`, (prompts,) or (prompts, seeds), by Student's t over the prompts' means.

    The noise of few seeds is counted in full, since it shows in the spread of those means. Raises ValueError for fewer
    than two prompts, an empty axis or a score that is not finite.
    """
    return t_interval(_per_prompt(scores))


def t_interval(values: Array, mean: float | None = None) -> Interval:
    """Student's t interval around `mean` from independent `values` (n,), which default to having that mean.

    With `mean` given, `values` are the linearised contributions of n units to a statistic.
    """
    middle = float(values.mean()) if mean is None else mean
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / sqrt(len(values))
    return Interval(middle, middle - half, middle + half)


def crossed_interval(scores: ArrayLike) -> Interval:
    """Mean of `scores` (runs, prompts), every run scored on the same prompts: both count, each on its own.

    It answers whether another training run, judged on other prompts, would come out alike. The variance is that of two
    crossed random effects (Searle, Casella & McCulloch 1992, chapter 4), v = s²_runs / runs + σ²_prompts / prompts,
    where s²_runs is the variance of the runs' means, which holds the error, and σ²_prompts the component of the
    analysis of variance, at least zero. Its quantile weighs the t quantiles of runs - 1 and prompts - 1 degrees of
    freedom by these two parts (Cochran & Cox 1957, section 4.31). Of two or three runs that makes wide intervals: so
    few say little about the next one. Raises ValueError for fewer than two runs or prompts.
    """
    table = _checked(scores, dimensions=(2,))
    runs, prompts = table.shape
    if runs < 2 or prompts < 2:
        raise ValueError(
            f"scores of shape {table.shape} hold {runs} run{'s' * (runs != 1)} of {prompts} prompt"
            f"{'s' * (prompts != 1)}; an interval over both needs at least 2 of each"
        )
    mean, of_run, of_prompt = table.mean(), table.mean(1), table.mean(0)
    error = table - of_run[:, None] - of_prompt[None] + mean
    noise = float((error**2).sum()) / ((runs - 1) * (prompts - 1))
    by_run = float(of_run.var(ddof=1)) / runs
    by_prompt = max(float(of_prompt.var(ddof=1)) / prompts - noise / (runs * prompts), 0.0)
    variance = by_run + by_prompt
    if variance == 0:
        return Interval(float(mean), float(mean), float(mean))
    quantile = (t_quantile(runs - 1) * by_run + t_quantile(prompts - 1) * by_prompt) / variance
    return Interval(float(mean), float(mean - quantile * sqrt(variance)), float(mean + quantile * sqrt(variance)))


def paired_difference(first: ArrayLike, second: ArrayLike) -> Interval:
    """Mean of first − second on shared prompts (and seeds), by Student's t over the prompts' differences."""
    return mean_interval(_difference(first, second))


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


def wilson_interval(wins: float, trials: int) -> Interval:
    """Share of `wins` in independent `trials`, with Wilson's score interval (1927); ties enter as half a win each."""
    if trials < 1 or not 0 <= wins <= trials:
        raise ValueError(
            f"{wins} wins of {trials} trials make no share; give 1 or more trials and at most as many wins"
        )
    return _wilson(wins / trials, trials)


def _wilson(share: float, trials: float) -> Interval:
    shrink = 1 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / shrink
    half = Z_95 * sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2)) / shrink
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def share_interval(hits: ArrayLike, sizes: ArrayLike, trials: float | None = None) -> Interval:
    """Share of `hits` in `sizes`, both (clusters,), where the trials of a cluster are not independent.

    Wilson's interval at the effective number of trials p (1 - p) / v, where v is the linearised variance of the ratio
    over the clusters, times (z / t)² for the clusters' degrees of freedom (Korn & Graubard 1998; Franco et al. 2019
    find it to cover best). There are at most `trials` of them, by default the sum of `sizes`, and where all hit or none
    does, and v says nothing, as many as clusters: so no interval has a width of zero. Raises ValueError if there is no
    trial at all.
    """
    hits, sizes = np.asarray(hits, dtype=float), np.asarray(sizes, dtype=float)
    hits, sizes = hits[sizes > 0], sizes[sizes > 0]
    if not len(sizes):
        raise ValueError("0 clusters of trials make no share; give 1 or more")
    clusters, total = len(sizes), float(sizes.sum())
    share = float(hits.sum()) / total
    most = total if trials is None else trials
    if clusters == 1:
        # nothing says how alike the trials of a cluster are
        return wilson_interval(share, 1)
    variance = clusters / (clusters - 1) * float(((hits - share * sizes) ** 2).sum()) / total**2
    if share in (0.0, 1.0):
        effective = min(float(clusters), most)
    elif variance == 0:
        effective = most
    else:
        effective = share * (1 - share) / variance * (Z_95 / t_quantile(clusters - 1)) ** 2
        effective = min(effective, most)
    return _wilson(share, effective)


def win_rate(first: ArrayLike, second: ArrayLike, *, tie: float = 0.0) -> Interval:
    """How often `first` scores above `second` on the same prompt and seed; |difference| ≤ `tie` counts half.

    One sample per prompt makes the trials independent: Wilson's interval. Several seeds, (prompts, seeds), are clusters
    of trials, one a prompt (`share_interval`).
    """
    difference = _difference(first, second)
    wins = np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(float))
    if difference.ndim == 1 or difference.shape[1] == 1:
        return wilson_interval(float(wins.sum()), wins.size)
    return share_interval(wins.sum(1), np.full(len(wins), wins.shape[1]))


@cache
def t_quantile(freedom: int) -> float:
    """The bound that |t| of Student's distribution with `freedom` degrees stays below in 95 % of cases.

    Solved by bisection from the distribution's closed form for whole degrees (Abramowitz & Stegun 1964, 26.7.3 and
    26.7.4), in the angle atan(t / √freedom).
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom give no t quantile; take at least 1")
    low, high = 0.0, pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _within(middle, freedom) < LEVEL else (low, middle)
    return sqrt(freedom) * tan(middle)


def _within(angle: float, freedom: int) -> float:
    """The chance that |t| stays below √freedom · tan(angle)."""
    odd, square = freedom % 2, cos(angle) ** 2
    term = total = cos(angle) if odd else 1.0
    for number in range(2 + odd, freedom - 1, 2):
        term *= (number - 1) / number * square
        total += term
    if not odd:
        return sin(angle) * total
    return 2 / pi * (angle + (sin(angle) * total if freedom > 1 else 0.0))


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


def _in_parts(draw: Callable[[np.random.Generator, int], Array], resamples: int, width: int, seed: int) -> Array:
    """`resamples` statistics, so many at a time that memory stays small; `width` is the entries one of them touches."""
    generator = np.random.default_rng(seed)
    size = max(1, _ENTRIES_AT_ONCE // width)
    return np.concatenate([draw(generator, min(size, resamples - at)) for at in range(0, resamples, size)])
