"""Reg-DPO with GT-Pair: real winners against the base's samples, with the winners' own error added."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import LogisticConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class GtPairConfig(LogisticConfig):
    """Reg-DPO with GT-Pair: real winners against the base's samples, with the winners' own error added."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="Reg-DPO, arXiv 2511.01450, 2025",
        supervision="winners",
        counterpart="generated",
        reference="initial",
        implementation="seppo_core.methods.gt_pair:GtPair",
    )
    name: str = "gt_pair"
    sft_weight: float = 1.0
    """Weight of the winners' plain error, which is added to the loss."""
