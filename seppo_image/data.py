"""Decodes pictures, from any source or from a captioned folder."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps

from seppo_core.data.discover import find_source
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.open import open_table
from seppo_core.data.source import BadItem, View
from seppo_core.models.crop import cover_crop

MAX_PIXELS = 128 * 1024**2
"""Larger pictures are refused before they are decoded: a file of a few kB can claim billions of pixels."""
MAX_BYTES = 256 * 1024**2
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The formats that are read: Pillow also knows some that run other programs (EPS) and some that any bytes match."""


class Pictures(Decoder):
    """Pictures of the usual formats, turned upright by their EXIF orientation, scaled and centre-cropped.

    Transparent parts become white; greys, palettes, CMYK and 16 bits become RGB; embedded colour profiles are ignored;
    of an animation the first frame is taken. With `upscale=False` a picture smaller than the target is rejected.
    """

    kind = "image"

    def __init__(
        self,
        height: int,
        width: int,
        *,
        upscale: bool = True,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ):
        self.height, self.width, self.upscale = height, width, upscale
        self.max_pixels, self.max_bytes = max_pixels, max_bytes
        # before threads ask for it; AVIF came to Pillow late
        Image.init()
        self._formats = tuple(name for name in FORMATS if name in Image.OPEN)

    def settings(self) -> tuple[int | float | str | bool, ...]:
        return (*super().settings(), self.upscale, self.max_pixels)

    def decode(self, name: str, content: Path | bytes) -> View:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=self._formats) as opened:
            if opened.width * opened.height > self.max_pixels:
                raise BadItem(name, f"{opened.width}x{opened.height} is over the limit of {self.max_pixels:,} pixels")
            image = to_rgb(ImageOps.exif_transpose(opened))
        if not self.upscale and (image.height < self.height or image.width < self.width):
            raise BadItem(name, f"{image.width}x{image.height} is smaller than {self.width}x{self.height}")
        pixels, crop = cover_crop(image, self.height, self.width)
        return View(rearrange(torch.from_numpy(pixels), "h w c -> c h w").contiguous(), crop)


class ImageFolder(MediaSource):
    """The pictures that a folder's metadata.jsonl or metadata.csv lists, as winners."""

    def __init__(
        self, folder: str | Path, height: int, width: int, *, upscale: bool = True, max_pixels: int = MAX_PIXELS
    ):
        found = find_source(str(folder), "folder")
        super().__init__(
            open_table(found.files[0], found.root), Pictures(height, width, upscale=upscale, max_pixels=max_pixels)
        )


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
