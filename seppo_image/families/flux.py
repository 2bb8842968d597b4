"""Flux.1 dev and schnell."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import at_least, between
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class FluxModel(ImageModel):
    """Flux.1 dev and schnell."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.flux:Flux",
        pipeline="FluxPipeline",
        comfyui="seppo_image.comfyui:flux",
        flow=True,
        cfg=False,
        context="latents and text",
    )
    family: str = "flux"
    text_tokens: int = 512
    """Number of tokens that captions are padded or cut to for T5; schnell was trained with 256."""
    training_guidance: float = 3.5
    """Guidance scale that the denoiser is told while it is trained (dev only); dev is sampled at 3.5."""

    def __post_init__(self):
        between("model", self, 1, 512, "text_tokens")
        at_least("model", self, 0, "training_guidance")
