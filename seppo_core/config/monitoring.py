"""What a run watches itself for, and where it logs to. Without torch, like all of the schema."""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config.validators import above, at_least, share

Action = Literal["off", "warn", "stop"]


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Gates that look at every update: each is off, warns, or stops the run. None of them moves a weight."""

    window: int = 20
    """Updates that a gate averages over; without a reference in the method the first ones stand for the base."""
    non_finite: Action = "stop"
    """Loss or gradient not finite; such an update is always skipped, the gate speaks when it goes on."""
    non_finite_updates: int = 10
    """Skipped updates in a row that are too many. The start of fp16 skips a few while its scale settles."""
    winner_error: Action = "warn"
    """The policy's error on the winners has risen above the base's: the model is getting worse, whatever the loss."""
    winner_error_rise: float = 0.2
    """Share of the base's winner error that it may rise by, once the rise stands out of the noise."""
    margin: Action = "warn"
    """The preference margin is so large that the loss has no gradient left, and only drifts."""
    margin_limit: float = 5.0
    """Mean margin, beta included, that is too large; at 5 a pair is weighted by 0.7 % of its start."""
    constant_sign: Action = "warn"
    """Every s has come out alike for a window of updates: the anchor decides nothing. Not with flipper: off."""
    sample_collapse: Action = "warn"
    """The reference's samples are becoming alike, or are not finite."""
    sample_collapse_share: float = 0.5
    """Share of the first iteration's variance below which samples count as collapsed."""

    def __post_init__(self):
        at_least("health", self, 2, "window")
        at_least("health", self, 1, "non_finite_updates")
        above("health", self, 0, "winner_error_rise", "margin_limit")
        share("health", self, "sample_collapse_share")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Where metrics go beside metrics.jsonl and TensorBoard."""

    wandb: str | None = None
    """Project on Weights & Biases, which needs the package wandb; null logs nowhere else."""

    def __post_init__(self):
        if self.wandb is not None and not self.wandb.strip():
            raise ValueError("log.wandb is empty; name a project, or null")
