"""AnimateDiff on Stable Diffusion XL."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_video.config import MotionModel


@dataclass(frozen=True, kw_only=True)
class AnimateDiffXLModel(MotionModel):
    """AnimateDiff on Stable Diffusion XL."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.animatediff_sdxl:AnimateDiffXL",
        pipeline="AnimateDiffSDXLPipeline",
        unet=True,
        scopes=("all", "motion", "spatial"),
        image_pipeline="StableDiffusionXLPipeline",
        usage="seppo_video.snippets:usage",
    )
    example: ClassVar[str] = "guoyww/animatediff-motion-adapter-sdxl-beta"
    family: str = "animatediff-sdxl"
