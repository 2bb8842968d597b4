"""Wan 2.1."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import above, between
from seppo_video.config import VideoModel


@dataclass(frozen=True, kw_only=True)
class WanModel(VideoModel):
    """Wan 2.1."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_video.wan:Wan",
        pipeline="WanPipeline",
        comfyui="seppo_video.comfyui:wan",
        autoencoder="AutoencoderKLWan",
        flow=True,
        context="latents",
    )
    family: str = "wan"
    fps: int = 16
    """Frames per second of the clips that are drawn."""
    text_tokens: int = 512
    """Number of tokens that captions are padded or cut to."""
    flow_shift: float | None = None
    """How far the sampler leans towards noise: 3 suits 480p and 5 suits 720p; null takes what the base says."""

    def __post_init__(self):
        super().__post_init__()
        between("model", self, 1, 512, "text_tokens")
        above("model", self, 0, "flow_shift")
