"""The schema of an image run: the shared sections and the image families."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from seppo_core.config.data import DataConfig
from seppo_core.config.model import ModelConfig
from seppo_core.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class ImageModel(ModelConfig):
    """The model that is aligned. Which keys it has depends on its family."""

    package: ClassVar[str] = "seppo_image.families"
    bases: ClassVar[Path] = Path(__file__).parent / "bases"

    family: str = "stable-diffusion"


@dataclass(frozen=True, kw_only=True)
class ImageData(DataConfig):
    """The winners: a folder of captioned pictures, encoded once by `prepare`."""

    height: int = 512
    """Height in pixels, after resize and centre crop."""
    width: int = 512
    """Width in pixels, after resize and centre crop."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Config):
    """Everything that an image run depends on."""

    model: ImageModel
    data: ImageData
