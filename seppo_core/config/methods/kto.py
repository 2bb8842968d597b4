"""Diffusion-KTO: items labelled good or bad, with the base as reference."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import MethodConfig
from seppo_core.config.method_specs import MethodSpec
from seppo_core.config.validators import above


@dataclass(frozen=True, kw_only=True)
class KtoConfig(MethodConfig):
    """Diffusion-KTO: items labelled good or bad, with the base as reference."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="Diffusion-KTO, arXiv 2404.04465, 2024",
        supervision="labels",
        counterpart="none",
        reference="initial",
        implementation="seppo_core.methods.kto:Kto",
    )
    name: str = "kto"
    beta: float = 5000.0
    """Sharpness of the utility, which multiplies differences of mean errors."""
    kto_weights: tuple[float, float] = (1.0, 1.0)
    """Weights of desirable and of undesirable items."""

    def __post_init__(self):
        super().__post_init__()
        above("method", self, 0, "beta")
        if min(self.kto_weights) < 0 or not max(self.kto_weights) > 0:
            raise ValueError(f"method.kto_weights={list(self.kto_weights)} must not be negative, nor both 0")
