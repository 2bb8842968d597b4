"""HunyuanVideo."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import at_least, between
from seppo_video.config import VideoModel


@dataclass(frozen=True, kw_only=True)
class HunyuanVideoModel(VideoModel):
    """HunyuanVideo."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.hunyuan:HunyuanVideo",
        pipeline="HunyuanVideoPipeline",
        comfyui="seppo_video.comfyui:hunyuan",
        autoencoder="AutoencoderKLHunyuanVideo",
        flow=True,
        cfg=False,
    )
    family: str = "hunyuan"
    fps: int = 24
    """Frames per second of the clips that are drawn."""
    text_tokens: int = 256
    """Number of tokens that captions are padded or cut to."""
    training_guidance: float = 6.0
    """Guidance scale that the denoiser is told while it is trained; it is sampled at 6."""

    def __post_init__(self):
        super().__post_init__()
        between("model", self, 1, 512, "text_tokens")
        at_least("model", self, 0, "training_guidance")
