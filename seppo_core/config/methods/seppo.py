"""SePPO: winners against samples of an earlier snapshot; an anchor decides the sign of each."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import AnchoredConfig
from seppo_core.config.method_specs import Flipper, MethodSpec


@dataclass(frozen=True, kw_only=True)
class SeppoConfig(AnchoredConfig):
    """SePPO: winners against samples of an earlier snapshot; an anchor decides the sign of each."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="SePPO, arXiv 2410.05255, 2024",
        supervision="winners",
        counterpart="generated",
        reference="random",
        implementation="seppo_core.methods.seppo:Seppo",
    )
    name: str = "seppo"
    flipper: Flipper = "sign"
    """Role of the reference's sample if the reference beats the policy on the winner: a second winner (sign), ignored
    (indicator), or still a loser (off)."""

    def __post_init__(self):
        super().__post_init__()
        if self.flipper == "off" and (self.anchor_draws or self.anchor_scope == "batch"):
            raise ValueError(
                f"method.flipper=off uses no sign, so that method.anchor_draws={self.anchor_draws} and "
                f"method.anchor_scope={self.anchor_scope} decide nothing; leave them out"
            )

    def signs(self, batch_size: int) -> int:
        return 0 if self.flipper == "off" else super().signs(batch_size)
