"""The objective, and how the reference draws its samples.

Without torch, like all of the schema.
"""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config_values import above, at_least

SchedulerName = Literal["default", "ddim", "pndm", "euler", "euler_ancestral", "dpm++", "unipc", "ddpm"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The objective."""

    name: Literal["seppo", "sft"] = "seppo"
    """seppo: semi-policy preference optimisation; sft: supervised fine-tuning on the winners alone."""
    beta: float = 2000
    """Strength of the preference term, on differences of mean errors. Diffusion-DPO's beta_dpo=5000 is 2500 here."""
    flipper: Literal["sign", "indicator", "off"] = "sign"
    """Use of samples of a reference that beats the policy: as winners, not at all, as losers (off: Diffusion-DPO)."""
    reference: Literal["random", "latest", "initial"] = "random"
    """Which snapshot is an iteration's reference: a uniform draw from all so far, the newest, or always the base."""
    noise: Literal["independent", "shared"] = "independent"
    """Whether a winner and its reference sample get two noises (the paper) or one (Diffusion-DPO's code)."""
    min_snr_gamma: float | None = None
    """Weight errors by min(SNR, gamma) / SNR, e.g. 5; null weights all timesteps alike."""
    timestep_density: Literal["uniform", "logit_normal"] = "uniform"
    """How training timesteps are drawn; logit_normal is for flow-matching models only."""
    timestep_shift: float = 1.0
    """Moves a flow-matching model's training timesteps towards noise; 1 does nothing."""

    def __post_init__(self):
        above("method", self, 0, "beta", "min_snr_gamma", "timestep_shift")


@dataclass(frozen=True, kw_only=True)
class ReferenceSamplesConfig:
    """How the reference draws its samples, at the start of every iteration. sft draws none."""

    scheduler: SchedulerName = "default"
    """Solver; default is the model's own."""
    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance; 1 turns it off."""
    batch_size: int = 8
    """Samples drawn at once by a process; changes speed and memory, not the samples."""
    reencode: bool = False
    """Decode samples and encode them again, as predecessors did, so that both halves carry the VAE's trace."""

    def __post_init__(self):
        at_least("reference_samples", self, 1, "steps", "batch_size")
        at_least("reference_samples", self, 0, "guidance_scale")
