"""Cutting a picture or a frame to the size that is trained on."""

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from seppo_core.models.adapter import CropInfo


def cover_crop(image: Image.Image, height: int, width: int) -> tuple[np.ndarray, CropInfo]:
    """Scales an RGB `image` until it just covers height × width, cuts out the centre: (height, width, 3) uint8.

    Lanczos, antialiased if it shrinks. An image that has the size already is returned unchanged. `CropInfo` gives
    the size of `image` itself, as SDXL was told it, and the corner of the crop in the scaled picture.
    """
    scale = max(height / image.height, width / image.width)
    # scaling and cropping in one pass: a strip of 1 × 10,000 pixels is never blown up as a whole
    box_height, box_width = min(height / scale, image.height), min(width / scale, image.width)
    # whole source pixels, so that a pure crop does not resample
    top, left = (image.height - box_height) // 2, (image.width - box_width) // 2
    box = (left, top, left + box_width, top + box_height)
    pixels = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
    framing = CropInfo(image.height, image.width, round(top * scale), round(left * scale), height, width)
    return np.array(pixels), framing


def time_ids(framings: list[CropInfo]) -> Int64[Tensor, "b 6"]:
    """As SDXL is told them: original height and width, top and left of the crop, height and width; in pixels."""
    # whole numbers: half precision would round a photograph's size
    return torch.tensor(framings)


def uncropped(x_t: Tensor, factor: int) -> Int64[Tensor, "b 6"]:
    """`time_ids` of pictures or clips with these latents, `factor` pixels each, that nothing was cut from."""
    height, width = (size * factor for size in x_t.shape[-2:])
    # made where it is used: a copy would wait, in every step of a solver, for all that a GPU still has to do
    numbers = CropInfo(height, width, 0, 0, height, width)
    return torch.stack([torch.full((len(x_t),), number, device=x_t.device) for number in numbers], dim=1)
