"""The sections `health` and `log`. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config.validators import above, at_least, share

Action = Literal["off", "warn", "stop"]


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Health checks after every update. Each is off, warns, or stops the run; none of them changes the training."""

    window: int = 20
    """Number of updates that a check averages over."""
    non_finite: Action = "stop"
    """Action if loss or gradients stay non-finite. Such an update is always skipped."""
    non_finite_updates: int = 10
    """Number of skipped updates, among the latest twice as many, that triggers non_finite. fp16 training skips a few
    updates at first while the loss scaler adapts."""
    winner_error: Action = "warn"
    """Action if the error of the policy on the winners rises above that of the base: the model is getting worse,
    whatever the loss says."""
    winner_error_rise: float = 0.2
    """Largest tolerated rise of the winner error, as a share of the error of the base."""
    held_out: Action = "warn"
    """Action if the error on held-out winners (data.validation) rises: overfitting, or a rate that ruins the model."""
    held_out_rise: float = 0.2
    """Largest tolerated rise of the held-out error, as a share of its lowest value so far, the base's included."""
    margin: Action = "warn"
    """Action if the preference margin is so large that the loss has hardly any gradient left, or as far below zero."""
    margin_limit: float = 5.0
    """Mean margin, beta included, that triggers margin; at 5 the gradient of a pair is 0.7 % of its maximum."""
    constant_sign: Action = "warn"
    """Action if every sign is the same for a window of updates, so that the anchor decides nothing."""
    sample_collapse: Action = "warn"
    """Action if the samples of the reference become alike, blow up, or are not finite."""
    sample_collapse_share: float = 0.5
    """Share of the variance of the first iteration below which samples count as collapsed."""

    def __post_init__(self):
        at_least("health", self, 2, "window")
        at_least("health", self, 1, "non_finite_updates")
        above("health", self, 0, "winner_error_rise", "held_out_rise", "margin_limit")
        share("health", self, "sample_collapse_share")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Where metrics are logged, in addition to metrics.jsonl and TensorBoard."""

    wandb: str | None = None
    """Weights & Biases project, which needs the package wandb; null does not log there."""

    def __post_init__(self):
        if self.wandb is not None and not self.wandb.strip():
            raise ValueError("log.wandb is empty; name a project, or null")
