"""Stable Diffusion 3 and 3.5."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import between
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class StableDiffusion3Model(ImageModel):
    """Stable Diffusion 3 and 3.5."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.sd3:StableDiffusion3",
        pipeline="StableDiffusion3Pipeline",
        comfyui="seppo_image.comfyui:sd3",
        flow=True,
    )
    family: str = "sd3"
    t5: bool = True
    """Whether T5, the largest of the text encoders, is loaded and used."""
    text_tokens: int = 256
    """Number of tokens that captions are padded or cut to for T5."""

    def __post_init__(self):
        between("model", self, 1, 512, "text_tokens")

    def load_options(self) -> dict[str, bool | None]:
        return {} if self.t5 else {"text_encoder_3": None, "tokenizer_3": None}
