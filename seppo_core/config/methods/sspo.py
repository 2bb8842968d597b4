"""SSPO: DPO's term if the policy beats the reference, else plain fine-tuning on the winner."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import AnchoredConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class SspoConfig(AnchoredConfig):
    """SSPO: DPO's term if the policy beats the reference, else plain fine-tuning on the winner."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="arXiv 2410.05255 v2, 2025",
        supervision="winners",
        counterpart="generated",
        reference="random",
        implementation="seppo_core.methods.sspo:Sspo",
    )
    name: str = "sspo"
