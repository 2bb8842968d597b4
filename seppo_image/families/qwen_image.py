"""Qwen-Image."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import between
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class QwenImageModel(ImageModel):
    """Qwen-Image."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.qwen_image:QwenImage",
        pipeline="QwenImagePipeline",
        comfyui="seppo_image.comfyui:qwen_image",
        autoencoder="AutoencoderKLQwenImage",
        flow=True,
        context="latents and text",
    )
    family: str = "qwen-image"
    text_tokens: int = 512
    """Number of tokens that captions are padded or cut to."""

    def __post_init__(self):
        between("model", self, 1, 1024, "text_tokens")
