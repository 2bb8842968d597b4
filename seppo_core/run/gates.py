"""The gates: each sees a run's metrics, update by update, and says what is wrong. Without torch."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from statistics import fmean, variance
from typing import NamedTuple

Metrics = Mapping[str, float | int | None]
"""One update's scalars, as the trainer logs them: `update` (1-based), `winner_error`, …; not finite may be null."""

PAIRED_STANDARD_ERRORS = 3
"""The same for held-out items, whose draws never change. They are few, and squared errors have long tails."""
STANDARD_ERRORS = 5
"""Standard errors by which the winner error must rise. Healthy toy runs reach 3.6 in their worst window."""
GROWTH = 4
"""Times the base's variance above which samples have blown up; those of a policy that gets better may gain some."""
LEAST = 3
"""Least number of base errors to compare with; with few updates an iteration the base is seldom the reference."""


class Finding(NamedTuple):
    """The numbers that a gate sees after an update."""

    since: int
    """The first update of what it saw."""
    saw: str
    advice: str
    """Advice that usually helps."""


Gate = Callable[[Metrics], Finding | None]


class NonFinite:
    """Counts skipped updates among the latest twice as many as its limit: one good update among many is no cure."""

    def __init__(self, limit: int):
        self.limit = limit
        self.bad: deque[tuple[int, str]] = deque()

    def __call__(self, metrics: Metrics) -> Finding | None:
        update = int(metrics["update"])
        names = [name for name in ("loss", "grad_norm") if name in metrics and not _finite(metrics[name])]
        if names:
            self.bad.append((update, " and ".join(names)))
        while self.bad and self.bad[0][0] <= update - 2 * self.limit:
            self.bad.popleft()
        count = len(self.bad)
        if count < self.limit:
            return None
        since = self.bad[0][0]
        latest = update - since + 1
        updates = f"{count} updates in a row" if count == latest else f"{count} of the latest {latest} updates"
        return Finding(
            since,
            f"{self.bad[-1][1]} not finite, {updates} skipped",
            "A lower learning rate or beta, or bf16 in place of fp16, usually helps.",
        )


class WinnerError:
    """Compares the policy's mean error on winners over the last window with the base's, by a share and by the noise.

    The base's errors are known, on the same draws, while it is the reference; their first window is used. For a method
    without a reference they are measured before the first update; in runs from before that was done, its own first
    window stands in for the base.
    """

    def __init__(self, window: int, rise: float):
        self.window, self.rise = window, rise
        self.base: list[float] = []
        self.start: tuple[float, float] | None = None
        """Mean and its standard error, as measured before the first update."""
        self.last: deque[float] = deque(maxlen=window)

    def __call__(self, metrics: Metrics) -> Finding | None:
        error, base = _winner_errors(metrics)
        if error is None:
            return None
        start = metrics.get("start_error"), metrics.get("start_noise")
        if all(map(_finite, start)):
            self.start = start
        stands_in = self.start is None and "reference" not in metrics and len(self.base) < self.window
        if stands_in:
            self.base.append(error)
        else:
            self.last.append(error)
            if base is not None and len(self.base) < self.window:
                self.base.append(base)
        if len(self.last) < self.window or (self.start is None and len(self.base) < min(LEAST, self.window)):
            return None
        now, spread = fmean(self.last), variance(self.last)
        if self.start is None:
            # the spread of a few may be small by chance
            before, squared = fmean(self.base), max(spread, variance(self.base)) / len(self.base)
        else:
            before, squared = self.start[0], self.start[1] ** 2
        noise = math.sqrt(squared + spread / self.window)
        if now <= (1 + self.rise) * before or now - before <= STANDARD_ERRORS * noise:
            return None
        stood_in = self.start is None and "reference" not in metrics
        whose = f"of the first {self.window} updates" if stood_in else "of the base"
        return Finding(
            int(metrics["update"]) - self.window + 1,
            f"winner_error is {now:.4g}, {now / before - 1:.0%} above the {before:.4g} {whose}",
            "The model is losing what the winners teach. A lower learning rate, a larger beta, flipper: indicator or "
            "method.sft_weight usually helps; look at the previews, and export an earlier checkpoint.",
        )


class HeldOut:
    """Compares the error on items that training never sees with its lowest so far, the start's included."""

    def __init__(self, rise: float):
        self.rise = rise
        self.lowest: tuple[float, int] | None = None
        self.found: Finding | None = None

    def __call__(self, metrics: Metrics) -> Finding | None:
        error, start, noise = (metrics.get(f"held_out_{name}") for name in ("error", "start", "noise"))
        if not all(map(_finite, (error, start, noise))):
            # it is measured seldom, and until then nothing is known to have changed
            return self.found
        update = int(metrics["update"])
        if self.lowest is None:
            self.lowest = start, 0
        lowest, when = self.lowest
        if error < lowest:
            self.lowest = error, update
        self.found = None
        if error > (1 + self.rise) * lowest and error - lowest > PAIRED_STANDARD_ERRORS * noise:
            self.found = Finding(
                when,
                f"held_out_error is {error:.4g}, {error / lowest - 1:.0%} above its lowest, {lowest:.4g} "
                + (f"after update {when}" if when else "of the base"),
                "What is learnt no longer holds for items that are not trained on: too high a rate, too many updates, "
                "or too few items. Export a checkpoint from before the rise, if one is kept.",
            )
        return self.found


def _winner_errors(metrics: Metrics) -> tuple[float | None, float | None]:
    """Mean errors on the winners, or desirable items, of the policy and of the base; None for one that is not known.

    The errors of the reference are the base's if it is the pool's first entry.
    """
    if _finite(share := metrics.get("share_desirable")) and share > 0:
        # both as parts of a mean over all items
        error, gap = (_divided(metrics.get(name), share) for name in ("desirable_error", "desirable_gap"))
    else:
        error, gap = metrics.get("winner_error"), metrics.get("winner_gap")
    if not _finite(error):
        return None, None
    return error, error - gap if metrics.get("reference") == 0 and _finite(gap) else None


def _divided(value: float | None, share: float) -> float | None:
    return value / share if _finite(value) else None


class Margin:
    def __init__(self, window: int, limit: float):
        self.limit = limit
        self.last: deque[float] = deque(maxlen=window)
        self.start: float | None = None
        """What the base gives: 0 where a reference is subtracted, else the mean of the first window."""

    def __call__(self, metrics: Metrics) -> Finding | None:
        if _finite(metrics.get("margin")):
            self.last.append(metrics["margin"])
        if len(self.last) < self.last.maxlen:
            return None
        mean = fmean(self.last)
        if self.start is None:
            self.start = 0.0 if "reference" in metrics else mean
        since = int(metrics["update"]) - len(self.last) + 1
        if mean < min(0.0, self.start) - self.limit:
            return Finding(
                since,
                f"the mean margin is {mean:.3g}, below -{self.limit:g}: the preference goes the wrong way, though the "
                "loss pulls as hard as it can",
                "The policy has left the reference in a direction that favours the other sample. A lower learning "
                "rate or a smaller beta usually helps; check that winners and losers are not swapped.",
            )
        if mean <= self.limit:
            return None
        return Finding(
            since,
            f"the mean margin is {mean:.3g}, above {self.limit:g}, so that the loss is flat",
            "The pairs are told apart already, often by the sample getting worse. A smaller beta or learning rate, "
            "fewer updates per iteration, or a newer reference (method.reference: latest) usually helps.",
        )


class Sign:
    def __init__(self, window: int):
        self.window = window
        self.value: float | None = None
        self.since = self.ties = 0

    def __call__(self, metrics: Metrics) -> Finding | None:
        share, update = metrics.get("share_s_plus"), int(metrics["update"])
        if self.value == 1 and share == 0 and metrics.get("gap_size") == 0:
            # policy and reference are one at the start of an iteration, which says nothing of either
            self.ties += 1
            return None
        if share != self.value or share not in (0, 1):
            self.value, self.since, self.ties = share, update, 0
            return None
        count = update - self.since + 1 - self.ties
        if count < self.window:
            return None
        if share == 1:
            saw = f"s was +1 for every pair of {count} updates: the policy always beats the reference on the winner"
            advice = (
                "The reference is too old to tell. method.reference: latest or a lower learning rate usually helps."
            )
        else:
            saw = f"s was never +1 in {count} updates: the policy never beats the reference on the winner"
            advice = (
                "Either the policy is not moving in the precision that it runs in (a higher learning rate, or less of "
                "bf16), or it is getting worse (a lower one)."
            )
        return Finding(self.since, saw, advice)


class Collapse:
    """Looks at `sample_variance`, one value per iteration; the first iteration's reference is the base itself."""

    def __init__(self, share: float):
        self.share = share
        self.first: float | None = None
        self.since: int | None = None

    def __call__(self, metrics: Metrics) -> Finding | None:
        if "sample_variance" not in metrics:
            return None
        value = metrics["sample_variance"]
        if _finite(value) and self.first is None:
            self.first = value
        if _finite(value) and self.share * self.first <= value <= GROWTH * self.first:
            self.since = None
            return None
        self.since = self.since or int(metrics["update"])
        if not _finite(value):
            saw = "the reference's samples are not finite"
        else:
            saw = f"the variance of the reference's samples is {value:.3g}, {value / self.first:.0%} of the base's"
        return Finding(
            self.since,
            saw,
            "The policy that they come from has collapsed, or blown up. Fewer updates per iteration, a lower learning "
            "rate or method.reference: initial usually helps; look at the previews.",
        )


def _finite(value: float | int | None) -> bool:
    return value is not None and math.isfinite(value)
