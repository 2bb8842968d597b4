"""From a picture to the pixels that a vision tower reads, the way each original does it, without torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from seppo_core.data.pictures import to_rgb

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Images = Sequence[Image.Image] | Tensor


def as_pictures(images: Images) -> list[Image.Image]:
    """Pictures in RGB, converted as those that are trained on; a tensor (n, 3, h, w) is uint8 or floating point in
    [0, 1] and rounded to 8 bits."""
    if not isinstance(images, Tensor):
        return [image if image.mode == "RGB" and not image.info else to_rgb(image) for image in images]
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images of shape {tuple(images.shape)}; a tensor of images is (n, 3, h, w)")
    if images.dtype != torch.uint8:
        if not images.is_floating_point():
            raise ValueError(f"images of type {images.dtype}; give uint8, or floating point in [0, 1]")
        low, high = images.min().item(), images.max().item()
        # written so that NaN fails too
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(f"images reach from {low:.3g} to {high:.3g}; floating point images lie in [0, 1]")
        images = (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(array) for array in rearrange(images, "n c h w -> n h w c").cpu().numpy()]


@dataclass(frozen=True)
class Framing:
    """How a picture of any size becomes (3, size, size), normalised.

    crop       shortest side to `size` on 8-bit values (PIL's filter, always antialiased), then the middle is cut out
    squash     both sides to `size` on 8-bit values; proportions are lost
    letterbox  longest side to `size` on floating point values, then black bars; with or without antialias
    """

    mode: Literal["crop", "squash", "letterbox"]
    size: int = 224
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    odd_margin: Literal["even", "low"] = "even"
    """Where the cut begins if the margin is odd: torchvision rounds half to even, transformers always down."""
    antialias: bool = True
    """Only for letterbox: torchvision's default for tensors was False before 0.17 and is True since."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size} pixels; it should be at least 1")

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        image = image.convert("RGB")
        match self.mode:
            case "crop":
                pixels = _to_tensor(_middle(self._shortest_side(image), self.size, self.odd_margin))
            case "squash":
                pixels = _to_tensor(image.resize((self.size, self.size), _filter(self.resample)))
            case "letterbox":
                pixels = self._letterbox(_to_tensor(image))
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def batch(self, images: Sequence[Image.Image]) -> Float[Tensor, "n 3 size size"]:
        return torch.stack([self(image) for image in images])

    def _shortest_side(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if width <= height:
            size = (self.size, int(self.size * height / width))
        else:
            size = (int(self.size * width / height), self.size)
        return image if size == image.size else image.resize(size, _filter(self.resample))

    def _letterbox(self, pixels: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 size size"]:
        height, width = pixels.shape[-2:]
        scale = self.size / float(max(height, width))
        if scale != 1:
            # a very thin picture would round to no pixels at all
            height, width = (max(1, round(side * scale)) for side in (height, width))
            pixels = F.interpolate(
                pixels[None], (height, width), mode=self.resample, align_corners=False, antialias=self.antialias
            )[0]
        down, right = self.size - height, self.size - width
        return F.pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2))

    @classmethod
    def from_config(cls, config: dict) -> "Framing":
        """The framing that a transformers `preprocessor_config.json` asks for.

        Raises ValueError for one that resizes in another way than to the shortest side or to a square.
        """
        size = config.get("size", 224)
        resample = {2: "bilinear", 3: "bicubic"}.get(config.get("resample", 3))
        if resample is None:
            raise ValueError(f"resample={config['resample']} in the image processor; 2 and 3 are known here")
        common = {
            "resample": resample,
            "mean": tuple(config.get("image_mean", CLIP_MEAN)),
            "std": tuple(config.get("image_std", CLIP_STD)),
            "odd_margin": "low",
        }
        # configs of 2021 write one number for the shortest side
        shortest = size if isinstance(size, int) else size.get("shortest_edge")
        if shortest is not None:
            crop = config.get("crop_size", shortest)
            crop = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
            if crop != (shortest, shortest):
                raise ValueError(f"crop_size={crop} after shortest side {shortest}; only equal ones are known here")
            return cls("crop", shortest, **common)
        if size.get("height") != size.get("width") or size.get("height") is None:
            raise ValueError(f"size={size} in the image processor; a shortest_edge or equal sides are known here")
        return cls("squash", size["height"], **common)


def _filter(name: str) -> Image.Resampling:
    return {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[name]


def _middle(image: Image.Image, size: int, odd_margin: str) -> Image.Image:
    def begin(side: int) -> int:
        return round((side - size) / 2) if odd_margin == "even" else (side - size) // 2

    left, top = begin(image.width), begin(image.height)
    return image.crop((left, top, left + size, top + size))


def _to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    return rearrange(torch.from_numpy(np.array(image)), "h w c -> c h w").float() / 255
