"""Health gates: detect problems of a run from its metrics alone. Without torch.

A gate's memory is a function of the metrics so far, so that a resumed run (which hands its `metrics.jsonl` in again),
every process of a run, and `status`, which has nothing but the file, all see the same alarms.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from seppo_core.config.method import MethodConfig
from seppo_core.config.monitoring import Action, HealthConfig
from seppo_core.run.gates import Collapse, Gate, HeldOut, Margin, Metrics, NonFinite, Sign, WinnerError

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
            ("non_finite", config.non_finite, NonFinite(config.non_finite_updates)),
            ("winner_error", config.winner_error, WinnerError(config.window, config.winner_error_rise)),
            ("held_out", config.held_out, HeldOut(config.held_out_rise)),
            ("margin", config.margin, Margin(config.window, config.margin_limit)),
            ("constant_sign", config.constant_sign if signs else "off", Sign(agreeing)),
            ("sample_collapse", config.sample_collapse, Collapse(config.sample_collapse_share)),
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
