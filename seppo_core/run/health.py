"""Health gates: detect problems of a run from its metrics alone. Without torch.

A gate's memory is a function of the metrics so far, so that a resumed run (which hands its `metrics.jsonl` in again),
every process of a run, and `status`, which has nothing but the file, all see the same alarms.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, variance
from typing import NamedTuple

from seppo_core.config.method import MethodConfig
from seppo_core.config.monitoring import Action, HealthConfig

Metrics = Mapping[str, float | int | None]
"""One update's scalars, as the trainer logs them: `update` (1-based), `winner_error`, …; not finite may be null."""

STANDARD_ERRORS = 5
"""Standard errors by which the winner error must rise. Healthy toy runs reach 3.6 in their worst window."""
LEAST = 3
"""Least number of base errors to compare with; with few updates an iteration the base is seldom the reference."""
SIGNS = 256
"""Least number of signs that must agree: a few pairs that are all won are harmless."""


@dataclass(frozen=True)
class Alarm:
    """A gate's warning, from `update` until the condition is gone."""

    gate: str
    update: int
    """The update after which the gate spoke."""
    since: int
    """The first update of what it saw."""
    saw: str
    advice: str
    action: Action

    def __str__(self) -> str:
        return f"{self.gate} at update {self.update}: {self.saw}, since update {self.since}. {self.advice}"


class UnhealthyRun(ValueError):
    """A gate whose action is stop has spoken."""

    def __init__(self, alarm: Alarm):
        self.alarm = alarm
        super().__init__(
            f"stopped by the health gate {alarm} The last checkpoint is left as it is; to go on regardless, run the "
            f"same command with --health.{alarm.gate} warn"
        )


class Health:
    """All gates of one run. `look` takes one update's metrics after the other.

    `signs` is how many s an update decides, 0 if s is +1 by definition (flipper off, methods without an anchor). A
    metric that a method does not log switches off the gates that look at it. `history` is what was logged before a
    resume.
    """

    def __init__(self, config: HealthConfig, *, signs: int, history: Iterable[Metrics] = ()):
        agreeing = max(config.window, math.ceil(SIGNS / max(1, signs)))
        gates: list[tuple[str, Action, Gate]] = [
            ("non_finite", config.non_finite, _NonFinite(config.non_finite_updates)),
            ("winner_error", config.winner_error, _WinnerError(config.window, config.winner_error_rise)),
            ("margin", config.margin, _Margin(config.window, config.margin_limit)),
            ("constant_sign", config.constant_sign if signs else "off", _Sign(agreeing)),
            ("sample_collapse", config.sample_collapse, _Collapse(config.sample_collapse_share)),
        ]
        self._gates = [gate for gate in gates if gate[1] != "off"]
        self._window = config.window
        self._standing: dict[str, Alarm] = {}
        self._quiet: dict[str, int] = {}
        self.alarms: list[Alarm] = []
        """All alarms so far, with those that are over."""
        for metrics in history:
            self.look(metrics)

    @classmethod
    def of(
        cls, health: HealthConfig, method: MethodConfig, batch_size: int, history: Iterable[Metrics] = ()
    ) -> "Health":
        """The gates for a run of `method` on updates of `batch_size` pairs."""
        return cls(health, signs=method.signs(batch_size), history=history)

    @property
    def standing(self) -> list[Alarm]:
        """Alarms whose condition held within the last window of updates."""
        return list(self._standing.values())

    @property
    def fatal(self) -> Alarm | None:
        """A standing alarm whose action is to stop the run."""
        return next((alarm for alarm in self.standing if alarm.action == "stop"), None)

    def look(self, metrics: Metrics) -> list[Alarm]:
        """The alarms that begin with this update; an alarm is repeated only after it was gone for a window."""
        new = []
        for name, action, gate in self._gates:
            finding = gate(metrics)
            # a value that wavers about its limit is one alarm, not many
            self._quiet[name] = 0 if finding else self._quiet.get(name, 0) + 1
            if self._quiet[name] >= self._window:
                self._standing.pop(name, None)
            elif finding and name not in self._standing:
                self._standing[name] = Alarm(name, int(metrics["update"]), *finding, action)
                new.append(self._standing[name])
        self.alarms += new
        return new


class Finding(NamedTuple):
    """The numbers that a gate sees after an update."""

    since: int
    """The first update of what it saw."""
    saw: str
    advice: str
    """Advice that usually helps."""


Gate = Callable[[Metrics], Finding | None]


class _NonFinite:
    def __init__(self, limit: int):
        self.limit = limit
        self.since: int | None = None

    def __call__(self, metrics: Metrics) -> Finding | None:
        bad = [name for name in ("loss", "grad_norm") if name in metrics and not _finite(metrics[name])]
        if not bad:
            self.since = None
            return None
        update = int(metrics["update"])
        self.since = self.since or update
        count = update - self.since + 1
        if count < self.limit:
            return None
        return Finding(
            self.since,
            f"{' and '.join(bad)} not finite, {count} updates in a row skipped",
            "A lower learning rate or beta, or bf16 in place of fp16, usually helps.",
        )


class _WinnerError:
    """Compares the policy's mean error on winners over the last window with the base's, by a share and by the noise.

    The base's errors are known, on the same draws, while it is the reference; their first window is used. For a method
    without a reference, its own first window stands in for the base.
    """

    def __init__(self, window: int, rise: float):
        self.window, self.rise = window, rise
        self.base: list[float] = []
        self.last: deque[float] = deque(maxlen=window)

    def __call__(self, metrics: Metrics) -> Finding | None:
        error, base = _winner_errors(metrics)
        if error is None:
            return None
        stands_in = "reference" not in metrics and len(self.base) < self.window
        if stands_in:
            self.base.append(error)
        else:
            self.last.append(error)
            if base is not None and len(self.base) < self.window:
                self.base.append(base)
        if len(self.last) < self.window or len(self.base) < min(LEAST, self.window):
            return None
        before, now = fmean(self.base), fmean(self.last)
        # the spread of a few may be small by chance
        spread = variance(self.last)
        noise = math.sqrt(max(spread, variance(self.base)) / len(self.base) + spread / self.window)
        if now <= (1 + self.rise) * before or now - before <= STANDARD_ERRORS * noise:
            return None
        whose = f"of the first {self.window} updates" if "reference" not in metrics else "of the base"
        return Finding(
            int(metrics["update"]) - self.window + 1,
            f"winner_error is {now:.4g}, {now / before - 1:.0%} above the {before:.4g} {whose}",
            "The model is losing what the winners teach. A lower learning rate, a larger beta, flipper: sign or an SFT "
            "weight usually helps; look at the previews, and export an earlier checkpoint.",
        )


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


class _Margin:
    def __init__(self, window: int, limit: float):
        self.limit = limit
        self.last: deque[float] = deque(maxlen=window)

    def __call__(self, metrics: Metrics) -> Finding | None:
        if _finite(metrics.get("margin")):
            self.last.append(metrics["margin"])
        if len(self.last) < self.last.maxlen or fmean(self.last) <= self.limit:
            return None
        return Finding(
            int(metrics["update"]) - len(self.last) + 1,
            f"the mean margin is {fmean(self.last):.3g}, above {self.limit:g}, so that the loss is flat",
            "The pairs are told apart already, often by the sample getting worse. A smaller beta or learning rate, "
            "fewer updates per iteration, or a newer reference (method.reference: latest) usually helps.",
        )


class _Sign:
    def __init__(self, window: int):
        self.window = window
        self.value: float | None = None
        self.since = 0

    def __call__(self, metrics: Metrics) -> Finding | None:
        share, update = metrics.get("share_s_plus"), int(metrics["update"])
        if share != self.value or share not in (0, 1):
            self.value, self.since = share, update
            return None
        count = update - self.since + 1
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


class _Collapse:
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
        if _finite(value) and value >= self.share * self.first:
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
            "The policy that they come from has collapsed. Fewer updates per iteration, a lower learning rate or "
            "method.reference: initial usually helps; look at the previews.",
        )


def _finite(value: float | int | None) -> bool:
    return value is not None and math.isfinite(value)
