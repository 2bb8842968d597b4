"""`python -m benchmarks coverage`: how often each kind of 95 % interval holds the truth, by simulation."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.evaluation.anchor.validity import validity
from seppo_core.report.statistics import Interval, crossed_interval, mean_interval, share_interval, win_rate

TRIALS = 2000
DESCRIPTION = """\
Draws data of which the truth is known, again and again, and counts how often the interval holds it. An interval that
promises 95 % should hold it in 95 % of the draws, and be no wider than that takes: "width" is its mean width over
that of an interval which knows how much the estimate spreads.
"""

Generator = np.random.Generator


@dataclass(frozen=True)
class Case:
    """Data that an interval is computed from, with the truth that it should hold."""

    kind: str
    data: str
    truth: float
    draw: Callable[[Generator], Interval]
    exact: bool = False
    """Whether the theory of the interval holds to the letter, so that it may not hold the truth more often either."""
    short: float = 0.0
    """Known shortfall of the coverage."""


@dataclass(frozen=True)
class Coverage:
    """What came out: `share` of the intervals held the truth, `width` relative to 2 × 1.96 deviations of estimates."""

    case: Case
    share: float
    width: float


def cases() -> Iterator[Case]:
    """All kinds of intervals that reports have, at few units and at many."""
    for prompts in (2, 3, 5, 10, 48):
        yield Case(
            "mean", f"{prompts} prompts x 3 seeds, normal", 0.0, lambda g, n=prompts: mean_interval(_nested(g, n, 3)),
            exact=True,
        )  # fmt: skip
    for prompts in (5, 48):
        yield Case(
            "mean", f"{prompts} prompts, skewed: beta(4, 1)", 0.8, lambda g, n=prompts: mean_interval(g.beta(4, 1, n)),
            short=0.05 if prompts < 10 else 0.01,
        )  # fmt: skip
    for runs in (2, 3, 5, 10):
        for by_run, by_prompt in ((0.0, 0.0), (0.15, 0.0), (0.15, 1.0), (0.5, 1.0), (2.0, 1.0)):
            yield Case(
                "crossed", f"{runs} runs x 48 prompts, deviations {by_run:g} and {by_prompt:g}, error 1", 0.0,
                lambda g, r=runs, a=by_run, b=by_prompt: crossed_interval(_crossed(g, r, 48, a, b)),
            )  # fmt: skip
    yield Case(
        "crossed", "3 runs x 10 prompts, deviations 0.15 and 1, error 1", 0.0,
        lambda g: crossed_interval(_crossed(g, 3, 10, 0.15, 1.0)),
    )  # fmt: skip
    for prompts in (5, 10, 48):
        for share in (0.5, 0.9, 0.98):
            for alike in (0.0, 0.3, 0.9):
                yield Case(
                    "win rate", f"{prompts} prompts x 4 seeds, rate {share:g}, correlation {alike:g}", share,
                    lambda g, n=prompts, p=share, a=alike: _wins(g, n, 4, p, a), short=0.03 if prompts < 10 else 0.01,
                )  # fmt: skip
    for captions in (12, 48):
        yield Case(
            "precision", f"{captions} captions of 1 to 4 items x 4 draws", 0.6, _precision(captions), short=0.015
        )
        yield Case("gain", f"{captions} captions, s knows nothing", 0.0, _gain(captions), short=0.015)


def measure(case: Case, trials: int = TRIALS, seed: int = 0) -> Coverage:
    """Draws `case` so often, keyed by `seed` alone."""
    generator = np.random.default_rng(seed)
    found = np.array([case.draw(generator) for _ in range(trials)])
    value, low, high = found.T
    held = (low <= case.truth) & (case.truth <= high)
    return Coverage(case, float(held.mean()), float((high - low).mean() / (2 * 1.96 * value.std())))


def _nested(generator: Generator, prompts: int, seeds: int) -> np.ndarray:
    return generator.normal(size=(prompts, 1)) + generator.normal(size=(prompts, seeds))


def _crossed(generator: Generator, runs: int, prompts: int, by_run: float, by_prompt: float) -> np.ndarray:
    parts = by_run * generator.normal(size=(runs, 1)), by_prompt * generator.normal(size=(1, prompts))
    return parts[0] + parts[1] + generator.normal(size=(runs, prompts))


def _shares(generator: Generator, clusters: int, share: float, alike: float) -> np.ndarray:
    """Chances of clusters of trials that correlate by `alike` within one."""
    if alike == 0:
        return np.full(clusters, share)
    scale = (1 - alike) / alike
    return generator.beta(share * scale, (1 - share) * scale, clusters)


def _wins(generator: Generator, prompts: int, seeds: int, share: float, alike: float) -> Interval:
    chances = _shares(generator, prompts, share, alike)
    return win_rate(
        (generator.random((prompts, seeds)) < chances[:, None]).astype(float), np.full((prompts, seeds), 0.5)
    )


def _precision(captions: int) -> Callable[[Generator], Interval]:
    def draw(generator: Generator) -> Interval:
        sizes = generator.integers(1, 5, captions) * 4
        return share_interval(generator.binomial(sizes, _shares(generator, captions, 0.6, 0.3)), sizes)

    return draw


def _gain(captions: int) -> Callable[[Generator], Interval]:
    def draw(generator: Generator) -> Interval:
        plus = generator.random((captions, 5)) < 0.6
        return validity(plus, generator.normal(0.3, 1, captions), [str(number) for number in range(captions)]).gain

    return draw


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks coverage",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="draws of each case (default: %(default)s)")
    asked = parser.parse_args(argv)
    if asked.trials < 2:
        parser.error(f"--trials {asked.trials} tells nothing; take at least 2, better {TRIALS}")
    print("| interval | data | holds the truth | width |\n| --- | --- | --- | --- |")
    for case in cases():
        found = measure(case, asked.trials)
        print(f"| {case.kind} | {case.data} | {100 * found.share:.1f} % | {found.width:.2f} |", flush=True)
    return 0
