"""Diffusion-DRO: winners against the policy's own samples, by a hinge."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import ReferenceLossConfig
from seppo_core.config.method_specs import MethodSpec, Strategy
from seppo_core.config.validators import at_least


@dataclass(frozen=True, kw_only=True)
class DroConfig(ReferenceLossConfig):
    """Diffusion-DRO: winners against the policy's own samples, by a hinge."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="after Diffusion-DRO, arXiv 2510.18353, 2025",
        supervision="winners",
        counterpart="generated",
        reference="initial",
        implementation="seppo_core.methods.dro:Dro",
    )
    name: str = "dro"
    margin: float = 0.001
    """By how much the winner's gain over the base has to exceed the sample's, in mean squared error, before a pair no
    longer counts."""
    sampled_from: Strategy = "latest"
    """Snapshot that generates an iteration's samples: the newest (latest), the base (initial), or a uniform draw from
    all so far (random). The loss compares with the base in any case."""

    def __post_init__(self):
        super().__post_init__()
        at_least("method", self, 0, "margin")
