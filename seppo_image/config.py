"""The schema of an image run: the shared sections and the image families."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from seppo_core.config.data import DataConfig
from seppo_core.config.method import check_flow, check_not_flow
from seppo_core.config.schema import Config, ModelConfig, check_flow_solvers

FLOWS = ("sd3", "flux", "sana")
"""Families that are trained by flow matching."""
KEYS = {
    "sd3": {"t5": True, "text_tokens": 256},
    "flux": {"text_tokens": 512, "training_guidance": 3.5},
    "sana": {"text_tokens": 300},
    "pixart-sigma": {"text_tokens": 300},
}
"""Keys of `model` that only some families have, and what null stands for."""


@dataclass(frozen=True, kw_only=True)
class ImageModel(ModelConfig):
    """What is aligned."""

    family: Literal["stable-diffusion", "sdxl", "sd3", "flux", "sana", "pixart-sigma"] = "stable-diffusion"
    """stable-diffusion: 1.x and 2.x; sdxl: Stable Diffusion XL; sd3: 3 and 3.5; flux: Flux.1 dev and schnell; sana;
    pixart-sigma."""
    text_tokens: int | None = None
    """Tokens per caption; null is 256 for sd3 (T5's), 512 for flux (schnell was trained with 256), 300 for sana and
    pixart-sigma."""
    t5: bool | None = None
    """sd3: whether T5, the largest of the text encoders, is loaded and used; null is true."""
    training_guidance: float | None = None
    """flux: guidance that the denoiser is told while it is trained (dev only); null is 3.5, what dev is sampled at."""

    optional: ClassVar[tuple[str, ...]] = ("text_tokens", "t5", "training_guidance")

    def __post_init__(self):
        for name in self.optional:
            value = vars(self)[name]
            if value is not None and name not in KEYS.get(self.family, {}):
                families = ", ".join(family for family, keys in KEYS.items() if name in keys)
                raise ValueError(f"model.{name}={value} is for {families}, not for {self.family}; leave it out")
        if self.text_tokens is not None and not 1 <= self.text_tokens <= 512:
            raise ValueError(f"model.text_tokens={self.text_tokens} must lie in 1 to 512, the most that a family knows")
        if self.training_guidance is not None and not self.training_guidance >= 0:
            raise ValueError(f"model.training_guidance={self.training_guidance} must be at least 0")

    def family_keys(self) -> dict[str, int | bool | float]:
        """The keys that this family alone has, with their values."""
        defaults = KEYS.get(self.family, {})
        return {name: default if vars(self)[name] is None else vars(self)[name] for name, default in defaults.items()}


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
        if self.model.family in FLOWS:
            check_flow(self.method, self.model.family)
            check_flow_solvers(self, self.model.family)
        else:
            check_not_flow(self.method, self.model.family)
