"""Pictures from a captioned folder."""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from seppo_core.adapter import Framing
from seppo_core.framing import cover_crop
from seppo_core.source import BadItem, FolderSource

MAX_PIXELS = 128 * 1024**2
"""Larger pictures are refused before they are decoded: a file of a few kB can claim billions of pixels."""


class ImageFolder(FolderSource):
    """Pictures of any format that Pillow reads, turned upright by their EXIF orientation, scaled and centre-cropped.

    Transparent parts become white; greys, palettes, CMYK and 16 bits become RGB; embedded colour profiles are ignored;
    of an animation the first frame is taken. With `upscale=False` a picture smaller than the target is rejected.
    """

    kind = "image"

    def __init__(self, folder: str | Path, height: int, width: int, upscale: bool = True, max_pixels: int = MAX_PIXELS):
        super().__init__(folder, height, width)
        self.upscale, self.max_pixels = upscale, max_pixels

    def settings(self) -> tuple[int | float | str | bool, ...]:
        return (*super().settings(), self.upscale, self.max_pixels)

    def load(self, file: str) -> tuple[UInt8[Tensor, "3 h w"], Framing]:
        with Image.open(self.folder / file) as opened:
            if opened.width * opened.height > self.max_pixels:
                raise BadItem(file, f"{opened.width}x{opened.height} is over the limit of {self.max_pixels:,} pixels")
            image = to_rgb(ImageOps.exif_transpose(opened))
        if not self.upscale and (image.height < self.height or image.width < self.width):
            raise BadItem(file, f"{image.width}x{image.height} is smaller than {self.width}x{self.height}")
        pixels, framing = cover_crop(image, self.height, self.width)
        return rearrange(torch.from_numpy(pixels), "h w c -> c h w").contiguous(), framing


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as RGB, transparency over white."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling 65535 down to it
        return Image.fromarray((np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no fixed range; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
