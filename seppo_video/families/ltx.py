"""LTX-Video."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import between
from seppo_video.config import VideoModel


@dataclass(frozen=True, kw_only=True)
class LTXModel(VideoModel):
    """LTX-Video."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.ltx:LTX",
        pipeline="LTXPipeline",
        comfyui="seppo_video.comfyui:ltx",
        autoencoder="AutoencoderKLLTXVideo",
        flow=True,
        context="latents",
    )
    family: str = "ltx"
    fps: int = 25
    """Frames per second of the clips that are drawn, which the denoiser is told too."""
    text_tokens: int = 128
    """Number of tokens that captions are padded or cut to."""

    def __post_init__(self):
        super().__post_init__()
        between("model", self, 1, 512, "text_tokens")
