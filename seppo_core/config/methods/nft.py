"""DiffusionNFT: samples of a moving average of the policy, each weighted by how its judge's score compares."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import MethodConfig
from seppo_core.config.method_specs import MethodSpec
from seppo_core.config.validators import above, at_least, share


@dataclass(frozen=True, kw_only=True)
class NftConfig(MethodConfig):
    """DiffusionNFT: samples of a moving average of the policy, each weighted by how its judge's score compares."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="DiffusionNFT, arXiv 2509.16117, 2025",
        supervision="prompts",
        counterpart="none",
        reference="latest",
        implementation="seppo_core.methods.nft:Nft",
    )
    name: str = "nft"
    beta: float = 1.0
    """Strength of guidance: the implicit positive and negative policies lie at beta times the policy's distance from
    the old policy, on either side of it."""
    normalise: bool = True
    """Divide each branch's squared error of x_0 by its own mean absolute error, as the released code does; false takes
    the squared error of the prediction, as the paper's equation."""
    reward_clip: float = 5.0
    """Distance from the mean of a caption's scores, in their standard deviations, at which a sample counts as wholly
    good or wholly bad."""
    old_decay: float = 0.5
    """Largest weight of the old policy in the next iteration's; 0 takes the policy as it is."""
    old_decay_rise: float = 0.001
    """By how much that weight rises with every iteration, from 0 on."""

    def __post_init__(self):
        super().__post_init__()
        above("method", self, 0, "beta", "reward_clip")
        at_least("method", self, 0, "old_decay_rise")
        share("method", self, "old_decay")
        if self.normalise and self.min_snr_gamma is not None:
            raise ValueError(
                f"method.min_snr_gamma={self.min_snr_gamma} weights errors that method.normalise=true takes of x_0; "
                "leave one of them out"
            )

    def snapshot_decay(self, iteration: int) -> float:
        return min(self.old_decay_rise * iteration, self.old_decay)
