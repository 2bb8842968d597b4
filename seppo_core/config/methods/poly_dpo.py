"""Poly-DPO: Diffusion-DPO with a term that makes it more or less sure of its pairs."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.method import LogisticConfig
from seppo_core.config.method_specs import MethodSpec


@dataclass(frozen=True, kw_only=True)
class PolyDpoConfig(LogisticConfig):
    """Poly-DPO: Diffusion-DPO with a term that makes it more or less sure of its pairs."""

    spec: ClassVar[MethodSpec] = MethodSpec(
        source="Poly-DPO, arXiv 2604.24953, 2026",
        supervision="pairs",
        counterpart="loser",
        reference="initial",
        implementation="seppo_core.methods.poly_dpo:PolyDpo",
    )
    name: str = "poly_dpo"
    alpha: float = 8.0
    """Weight of 1 − σ(margin), which is added to the loss: above 0 the pairs that are told apart badly count more,
    below 0 less; 0 is Diffusion-DPO."""

    def __post_init__(self):
        super().__post_init__()
        if not self.alpha >= -1:
            raise ValueError(f"method.alpha={self.alpha} must be at least -1; below, the loss can prefer the loser")
