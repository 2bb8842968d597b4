"""The objective, and how the reference draws its samples.

Without torch, like all of the schema.
"""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config.method_specs import RECIPES, Flipper, Recipe, Strategy
from seppo_core.config.validators import above, at_least

SchedulerName = Literal["default", "ddim", "pndm", "euler", "euler_ancestral", "dpm++", "unipc", "ddpm"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The objective."""

    name: Literal["seppo", "sspo", "sft", "dpo", "spin", "ditto", "mapo", "kto"] = "seppo"
    """seppo, sspo: semi-policy; sft: the winners alone; spin, ditto: own samples; dpo, mapo: pairs; kto: labels."""
    beta: float | None = None
    """Strength of the preference term, on differences of mean errors (Diffusion-DPO's beta_dpo=5000 is 2500 here); null
    takes the method's: 2000, but 0.1 for mapo and 5000 for kto."""
    flipper: Flipper | None = None
    """seppo: use of samples of a reference that beats the policy: as winners (sign, the default), not at all
    (indicator), as losers (off)."""
    reference: Strategy | None = None
    """seppo, sspo: which snapshot is an iteration's reference: a uniform draw from all so far (random, the default),
    the newest (latest), or always the base (initial)."""
    remember: int | None = None
    """seppo, sspo: draw a random reference from the newest so many snapshots and delete those before, which is another
    method than the paper's; null keeps and draws from all."""
    anchor_draws: int = 0
    """seppo, sspo: further draws of timestep and noise whose mean decides each sign; 0 decides by the loss's own."""
    anchor_per: Literal["sample", "batch"] = "sample"
    """seppo, sspo: whether each sample has its sign, or the whole batch one."""
    guard: float | None = None
    """Winner-preserving guard of Diffusion-SDPO: share of the winner's own descent to keep, 0 to 1; null is none."""
    sft_weight: float = 0.0
    """Weight of the winners' plain error, added to a contrastive loss."""
    kto_weights: tuple[float, float] = (1.0, 1.0)
    """kto: weights of desirable and of undesirable items."""
    noise: Literal["independent", "shared"] = "independent"
    """Whether a winner and its second sample get two noises (the paper) or one (Diffusion-DPO's code)."""
    min_snr_gamma: float | None = None
    """Weight errors by min(SNR, gamma) / SNR, e.g. 5; null weights all timesteps alike."""
    timestep_density: Literal["uniform", "logit_normal"] = "uniform"
    """How training timesteps are drawn; logit_normal is for flow-matching models only."""
    timestep_shift: float = 1.0
    """Moves a flow-matching model's training timesteps towards noise; 1 does nothing."""

    def __post_init__(self):
        above("method", self, 0, "beta", "min_snr_gamma", "timestep_shift")
        at_least("method", self, 0, "anchor_draws", "guard", "sft_weight")
        at_least("method", self, 1, "remember")
        if self.guard is not None and not self.guard < 1:
            raise ValueError(f"method.guard={self.guard} must lie in [0, 1); at 1 the second sample would never count")
        if min(self.kto_weights) < 0 or not max(self.kto_weights) > 0:
            raise ValueError(f"method.kto_weights={list(self.kto_weights)} must not be negative, nor both 0")
        recipe = self.recipe
        anchored = self.name in ("seppo", "sspo")
        for key, meant in [
            ("beta", recipe.beta is not None),
            ("flipper", "flipper" in recipe.choices),
            ("reference", "strategy" in recipe.choices),
            ("remember", anchored and self.strategy == "random"),
            ("anchor_draws", anchored),
            ("anchor_per", anchored),
            ("guard", recipe.contrastive),
            # mapo's loss has the winners' error in it already
            ("sft_weight", recipe.contrastive and recipe.uses_reference),
            ("kto_weights", self.name == "kto"),
            ("noise", recipe.contrastive),
        ]:
            value, default = getattr(self, key), type(self).__dataclass_fields__[key].default
            if value != default and not meant:
                raise ValueError(f"method.{key}={value} has no meaning for method.name={self.name}; leave it out")
        if self.effective_flipper == "off" and (self.anchor_draws or self.anchor_per == "batch"):
            raise ValueError(
                f"method.flipper=off takes no sign, so that method.anchor_draws={self.anchor_draws} and "
                f"method.anchor_per={self.anchor_per} decide nothing; leave them out"
            )

    @property
    def recipe(self) -> Recipe:
        """What the method learns from, and its defaults."""
        return RECIPES[self.name]

    @property
    def effective_beta(self) -> float | None:
        """The one that is used: the config's or the method's own."""
        return self.recipe.beta if self.beta is None else self.beta

    @property
    def effective_flipper(self) -> Flipper | None:
        """The one that is used: the config's or the method's own."""
        return self.flipper or self.recipe.flipper

    @property
    def strategy(self) -> Strategy | None:
        """Of the reference, as it is used: the config's or the method's own."""
        return self.reference or self.recipe.strategy


@dataclass(frozen=True, kw_only=True)
class ReferenceSamplesConfig:
    """How the reference draws its samples, at the start of every iteration, for the methods that learn from them."""

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
