"""Stable Diffusion 1.x and 2.x."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class StableDiffusionModel(ImageModel):
    """Stable Diffusion 1.x and 2.x."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.stable_diffusion:StableDiffusion",
        pipeline="StableDiffusionPipeline",
        comfyui="seppo_image.comfyui:unet",
        unet=True,
    )
    family: str = "stable-diffusion"

    def load_options(self) -> dict[str, bool | None]:
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
