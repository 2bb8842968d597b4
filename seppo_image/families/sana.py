"""Sana."""

from dataclasses import dataclass
from typing import ClassVar

from seppo_core.config.model import FamilySpec
from seppo_core.config.validators import between
from seppo_image.config import ImageModel


@dataclass(frozen=True, kw_only=True)
class SanaModel(ImageModel):
    """Sana."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        adapter="seppo_image.sana:Sana",
        pipeline="SanaPipeline",
        autoencoder="AutoencoderDC",
        flow=True,
    )
    family: str = "sana"
    text_tokens: int = 300
    """Number of tokens that captions are padded or cut to."""

    def __post_init__(self):
        between("model", self, 1, 512, "text_tokens")
