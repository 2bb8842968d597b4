"""CogVideoX 2b, 5b and 1.5."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_video.config import VideoModel


@dataclass(frozen=True, kw_only=True)
class CogVideoXModel(VideoModel):
    """CogVideoX 2b, 5b and 1.5."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.cogvideox:CogVideoX",
        pipeline="CogVideoXPipeline",
        autoencoder="AutoencoderKLCogVideoX",
    )
    family: str = "cogvideox"
    fps: int = 8
    """Frames per second of the clips that are drawn; set 16 for 1.5."""
