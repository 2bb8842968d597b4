"""Stable Diffusion XL."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class StableDiffusionXLModel(ImageModel):
    """Stable Diffusion XL."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.sdxl:StableDiffusionXL",
        pipeline="StableDiffusionXLPipeline",
        comfyui="seppo_image.comfyui:unet",
        unet=True,
    )
    family: str = "sdxl"
