"""SPIN-Diffusion: winners against samples of the newest snapshot."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import LogisticConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class SpinConfig(LogisticConfig):
    """SPIN-Diffusion: winners against samples of the newest snapshot."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="SPIN-Diffusion, arXiv 2402.10210, 2024",
        supervision="winners",
        counterpart="generated",
        reference="latest",
        implementation="seppo_core.methods.spin:Spin",
    )
    name: str = "spin"
