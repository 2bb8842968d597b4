"""The named ways to bring a frame to Inception's 299 × 299; FID differs by points between them, so the name goes along.

clean        PIL's bicubic filter, antialiased, on each channel in floating point, clipped to [0, 255], not requantised
             (Parmar et al. 2022); then (x - 128) / 128
pytorch_fid  torch's bilinear on [0, 1] without antialias, then 2x - 1 (pytorch-fid, "legacy")
tf1          TensorFlow 1's bilinear, which takes corner pixels for corners; then (x - 128) / 128 (torch-fidelity)
"""

from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from seppo_core.judging.video_pixels import Frames, levels, unit

Resize = Literal["clean", "pytorch_fid", "tf1"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
SIDE = 299


def inception_input(frames: Frames, resize: Resize) -> Float[Tensor, "f 3 299 299"]:
    """Frames as the network takes them. Floating point is rounded to 8 bits first, as files are.

    Raises ValueError for an unknown resize.
    """
    match resize:
        case "clean":
            return (_pil_bicubic(levels(frames)) - 128) / 128
        case "pytorch_fid":
            shrunk = F.interpolate(unit(levels(frames)), (SIDE, SIDE), mode="bilinear", align_corners=False)
            return 2 * shrunk - 1
        case "tf1":
            return (_tf1_bilinear(levels(frames).float()) - 128) / 128
    raise ValueError(f"resize={resize!r}; there are {', '.join(RESIZES)}")


def _pil_bicubic(frames: Tensor) -> Float[Tensor, "f 3 299 299"]:
    planes = rearrange(frames, "f c h w -> (f c) h w").cpu().numpy().astype(np.float32)
    filtered = [
        np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 255)
        for plane in planes
    ]
    stacked = torch.from_numpy(np.stack(filtered)).to(frames.device)
    return rearrange(stacked, "(f c) h w -> f c h w", c=3)


def _tf1_bilinear(x: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f 3 299 299"]:
    """Output pixel i reads at i · (size / 299): no half-pixel shift, so that the picture drifts to the lower right."""
    return _along(_along(x, 3), 2)


def _along(x: Tensor, dimension: int) -> Tensor:
    size = x.shape[dimension]
    # in float32, as the kernel does it: the whole parts of the products depend on it
    places = torch.arange(SIDE, dtype=torch.float32, device=x.device) * torch.tensor(size / SIDE, dtype=torch.float32)
    low = places.long()
    share = (places - low).view([-1 if d == dimension else 1 for d in range(4)])
    first = x.index_select(dimension, low)
    return first + (x.index_select(dimension, (low + 1).clamp(max=size - 1)) - first) * share
