"""The schema of an image run: the shared sections and the image families."""

from dataclasses import dataclass
from typing import Literal

from seppo_core.config import Config, DataConfig, ModelConfig, check_not_flow


@dataclass(frozen=True, kw_only=True)
class ImageModel(ModelConfig):
    """What is aligned."""

    family: Literal["stable-diffusion"] = "stable-diffusion"
    """stable-diffusion: the UNets of Stable Diffusion 1.x and 2.x, predicting noise or v."""


@dataclass(frozen=True, kw_only=True)
class ImageData(DataConfig):
    """The winners: a folder of captioned pictures, encoded once by `prepare`."""

    height: int = 512
    """In pixels, after resize and centre crop."""
    width: int = 512
    """In pixels, after resize and centre crop."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Config):
    """Everything that an image run depends on."""

    model: ImageModel
    data: ImageData

    def __post_init__(self):
        super().__post_init__()
        check_not_flow(self.method, self.model.family)
