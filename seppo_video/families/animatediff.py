"""AnimateDiff: Stable Diffusion 1.x with motion modules."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_video.config import MotionModel


@dataclass(frozen=True, kw_only=True)
class AnimateDiffModel(MotionModel):
    """AnimateDiff: Stable Diffusion 1.x with motion modules."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.animatediff:AnimateDiff",
        pipeline="AnimateDiffPipeline",
        unet=True,
        scopes=("all", "motion", "spatial"),
        image_pipeline="StableDiffusionPipeline",
        comfyui="seppo_video.comfyui:animatediff",
        comfyui_scopes=("motion",),
        usage="seppo_video.snippets:usage",
    )
    example: ClassVar[str] = "guoyww/animatediff-motion-adapter-v1-5-3"
    family: str = "animatediff"
