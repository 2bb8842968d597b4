"""Decodes pictures, from any source or from a captioned folder."""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from seppo_core.data.discover import find_source
from seppo_core.data.media import Decoder, MediaSource
from seppo_core.data.open_records import open_folder
from seppo_core.data.pictures import MAX_PIXELS, PictureError, use_picture
from seppo_core.data.source import BadItem, View
from seppo_core.models.adapter import CropInfo
from seppo_core.models.crop import cover_crop

MAX_BYTES = 256 * 1024**2


class Pictures(Decoder):
    """Pictures as `read_picture` gives them, scaled and centre-cropped; smaller ones are enlarged."""

    kind = "image"
    # before 2: profiles were ignored, and broken EXIF or long texts were reasons to reject a picture
    decoding = "pictures 2"

    def __init__(self, height: int, width: int, *, max_bytes: int = MAX_BYTES):
        self.height, self.width, self.max_bytes = height, width, max_bytes

    def settings(self) -> tuple[int | float | str | bool, ...]:
        # True was an option: that small pictures are enlarged; the fingerprints of caches hold it
        return (*super().settings(), True, MAX_PIXELS)

    def decode(self, name: str, content: Path | bytes) -> View:
        try:
            pixels, crop = use_picture(content, self._cut)
        except PictureError as error:
            raise BadItem(name, str(error)) from error
        return View(rearrange(torch.from_numpy(pixels), "h w c -> c h w").contiguous(), crop)

    def _cut(self, image: Image.Image) -> tuple[UInt8[np.ndarray, "height width 3"], CropInfo]:
        return cover_crop(image, self.height, self.width)


class ImageFolder(MediaSource):
    """The pictures that a folder's metadata.jsonl or metadata.csv lists, as winners."""

    def __init__(self, folder: str | Path, height: int, width: int):
        super().__init__(open_folder(find_source(str(folder), "folder")), Pictures(height, width))
