"""From a model's pixels to what files and judges hold."""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor


def to_frames(pixels: Float[Tensor, " b 3 *pixels"]) -> UInt8[Tensor, "b f h w 3"]:
    """8-bit frames of images (b, 3, h, w) or videos (b, 3, f, h, w) in [-1, 1]."""
    if pixels.ndim == 4:
        pixels = rearrange(pixels, "b c h w -> b c 1 h w")
    levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(levels, "b c f h w -> b f h w c")
